"""A whole experiment in a folder: a tiny LLM, a tiny encoder, a BEIR collection, and the overrides that name them."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning  # noqa: F401 - now: its logger writes to what is stderr while it is imported, a test's is closed later
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from perank.files import CONF_DIR
from support import tiny

# What Lightning says about tiny runs that have nothing else in their folder.
QUIET = [
    pytest.mark.filterwarnings("ignore:.*exists and is not empty.*"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # workers on a machine with one core
]
LORA = [
    "backbone.lora.r=2",
    "backbone.lora.alpha=4",
    "backbone.lora.dropout=0.2",  # so that the random state matters
    "backbone.lora.targets=[q_proj,v_proj]",
]


def make_world(folder: Path) -> Path:
    """llm/, encoder/ and collection/ under `folder`: 40 passages, 12 train queries and 5 test queries."""
    tiny.tiny_llm(3, layers=1, width=16, heads=2, kv_heads=1, initializer_range=0.1).save_pretrained(folder / "llm")
    tiny.tiny_tokenizer().save_pretrained(folder / "llm")
    tiny.tiny_encoder(folder / "encoder")
    make_collection(folder / "collection")
    return folder


def make_collection(folder: Path, *, passages: int = 40, train: int = 12, test: int = 5) -> None:
    """A BEIR folder whose queries are beginnings of the passages they are judged with."""
    dice = random.Random(0)
    texts = {f"p{i}": " ".join(dice.sample(tiny.WORDS, 8)) for i in range(passages)}
    queries = {f"q{i}": " ".join(texts[f"p{i}"].split()[:4]) for i in range(train + test)}
    (folder / "qrels").mkdir(parents=True)
    write_jsonl(folder / "corpus.jsonl", texts)
    write_jsonl(folder / "queries.jsonl", queries)
    for split, ids in {"train": range(train), "test": range(train, train + test)}.items():
        judged = "".join(f"q{i}\tp{i}\t1\n" for i in ids)
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)


def write_jsonl(path: Path, texts: dict[str, str]) -> None:
    path.write_text("".join(json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items()))


def overrides(world: Path, stage: str = "rank", *more: str) -> list[str]:
    """What makes `perank.train` run `stage` in this world in a second or two: 12 (align: 10) steps of 4 rows."""
    rank = ["data.candidates=5", "data.pool_depth=20", *LORA, "loss.first_weight=1.0"]
    return [
        f"+experiment={stage}",
        "collection=beir",
        f"collection.folder={world}/collection",
        "suite=beir",
        f"suite.beir.collection.folder={world}/collection",
        "suite.beir.depth=7",
        f"encoder.name={world}/encoder",
        "encoder.max_length=32",
        "encoder.dtype=float32",
        f"backbone.name={world}/llm",
        "backbone.num_layers=null",
        "backbone.dtype=float32",
        "projector.sample=30",
        "window.window=5",
        "window.step=3",
        "data.rows=" + ("48" if stage == "rank" else "40"),
        "data.batch_size=4",
        "callbacks.checkpoint.every_n_train_steps=5",
        "callbacks.progress=null",
        "+trainer.enable_progress_bar=false",
        "trainer.log_every_n_steps=1",
        *{"rank": rank, "align": ["data.text_tokens=8"]}.get(stage, []),
        *more,
    ]


def composed(world: Path, output: Path, stage: str = "rank", *more: str, config: str = "train") -> DictConfig:
    """The config of that command, with `output` in place of Hydra's folder."""
    return composed_of([*overrides(world, stage), *more], output, config=config)


def composed_of(settings: list[str], output: Path, *, config: str = "train") -> DictConfig:
    """The config of a command with these overrides alone."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        found = compose(config, overrides=settings)
    with open_dict(found):
        found.paths.output = str(output)
    return found


def command(main: Callable[[], None], *arguments: str) -> int:
    """The exit code of an entry point with these arguments; the process' logging, which Hydra sets up, is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["perank", *arguments])
            main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
    return 0


def losses(output: Path) -> dict[int, float]:
    """Step -> loss, from the logs of a run and of what it was resumed from."""
    found: dict[int, float] = {}
    for path in sorted(output.glob("metrics.*csv"), key=lambda path: (path.name == "metrics.csv", path.name)):
        for row in logged(path):
            if row.get("train/loss"):
                found[int(row["step"])] = float(row["train/loss"])
    return found


def logged(path: Path) -> list[dict[str, str]]:
    """The lines of a metrics.csv."""
    return list(csv.DictReader(path.read_text().splitlines()))


def weights(output: Path) -> str:
    """SHA-256 of the projector and adapters that a run left, as their files hold them."""
    from safetensors.torch import load_file

    return digest(load_file(output / "projector.safetensors") | load_file(output / "model" / "model.safetensors"))


def digest(state: dict[str, Any]) -> str:
    """SHA-256 over names and bytes of tensors."""
    total = hashlib.sha256()
    for name in sorted(state):
        total.update(name.encode())
        total.update(state[name].detach().contiguous().numpy().tobytes())
    return total.hexdigest()
