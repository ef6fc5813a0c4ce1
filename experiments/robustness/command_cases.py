"""Malformed input at the front door: `perank-train`, `perank-evaluate`, their exit codes, and what they leave."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import toy
from perank.evaluate import main as evaluate
from perank.train import main as train

NEVER = ("*.part", "*.ckpt", "model", "projector.safetensors", "metrics.json", "results.csv")


@dataclass(frozen=True)
class Command:
    """Arguments behind those of a run that works, what may be done to its world before, and what must be said."""

    name: str
    arguments: tuple[str, ...]
    says: str
    spoil: Callable[[Path], object] = lambda world: None
    entry: Callable[[], None] = train
    stage: str = "rank"


def run(command: Command, folder: Path) -> str:
    """ "refused", or what was wrong with how it ended."""
    world, output = toy.make_world(folder / "world"), folder / "run"
    command.spoil(world)
    stage = toy.overrides(world, command.stage) if command.entry is train else _evaluation(world)
    arguments = [argument.replace("WORLD", str(world)) for argument in command.arguments]
    before, error = Path.cwd(), io.StringIO()
    os.chdir(folder)
    try:
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            code = toy.command(command.entry, *stage, *arguments, f"hydra.run.dir={output}")
    except Exception as raised:
        return f"traceback: {type(raised).__name__}: {raised}"
    finally:
        os.chdir(before)
    said = error.getvalue()
    if code == 0:
        return "silent"
    left = [path.name for pattern in NEVER for path in output.rglob(pattern)]
    message = said[said.rfind("perank: ") :]
    if code != 2 or left or command.says not in message or "Traceback" in said:
        return f"exit code {code}, left {left}, said {message!r}"
    return "refused"


def _evaluation(world: Path) -> list[str]:
    kept = ("suite", "encoder", "window")
    return [override for override in toy.overrides(world) if override.startswith(kept)]


def _append(file: str, text: str) -> Callable[[Path], object]:
    return partial(_write, file, text)


def _write(file: str, text: str, world: Path) -> None:
    path = world / file
    path.write_text((path.read_text() if path.exists() else "") + text)


def _text_out_of(file: str) -> Callable[[Path], object]:
    def spoil(world: Path) -> None:
        lines = (world / file).read_text().splitlines()
        row = json.loads(lines[2])
        (world / file).write_text("\n".join([*lines[:2], json.dumps({"_id": row["_id"]}), *lines[3:]]) + "\n")

    return spoil


ROW = '{"query_id": "q1", "query": "otter", "passages": ["p1", "nowhere"], "order": [0, 1]}\n'
STRANGER = '{"query_id": "q99", "query": "otter", "passages": ["p1", "p2"], "order": [0, 1]}\n'

SETTINGS = {
    "encodr.name=x": "encodr",
    "encoder=minilmm": "minilm",
    "+encoder.nam=x": "encoder.nam",
    "+data.row=3": "data.row",
    "+prompt.lenght=3": "prompt.lenght",
    "+projector.sampel=3": "projector.sampel",
    "+window.size=3": "window.size",
    "+teacher.name=x": "teacher.name",
    "+optimizer.rate=1": "optimizer.rate",
    "+loss.beta=1": "loss.beta",
    "+trainer.epochs=1": "trainer.epochs",
    "+callbacks.checkpoint.every=1": "callbacks.checkpoint.every",
    "+collection.path=x": "collection.path",
    "+suite.beir.size=3": "suite.beir.size",
    "+backbone.lora.rank=2": "backbone.lora.rank",
    "+sede=1": "sede",
    "~optimizer.lr": "optimizer.lr",
    "seed=one": "seed",
    "seed=-1": "seed",
    "seed=1.5": "seed",
    "evaluate=maybe": "evaluate",
    "residual=much": "residual",
    "backbone.lora.r=eight": "backbone.lora.r",
    "backbone.lora.targets=[no_such_layer]": "no_such_layer",
    "backbone.num_layers=99": "num_layers",
    "backbone.dtype=float7": "float7",
    "encoder.max_length=999": "max_length",
    "encoder.pooling=best": "best",
    "optimizer.lr=-1": "optimizer.lr",
    "optimizer.betas=[0.9]": "optimizer.betas",
    "loss.reduction=product": "product",
    "projector.init=guess": "guess",
    "prompt.version=short": "short",
    "prompt.max_length=10": "prompt.max_length",
    "stage.name=sort": "sort",
    "teacher.kind=oracle": "oracle",
    "data.pools=[best]": "best",
    "data.pools=[]": "pools",
    "data.rows=0": "no rows",
    "data.steps=0": "data.steps",
    "data.batch_size=0": "batch_size",
    "data.batch_size=4000": "fewer than one step",
    "data.num_workers=-1": "num_workers",
    "trainer.max_epochs=2": "data.epochs",
    "trainer.accelerator=abacus": "abacus",
    "trainer.devices=x": "trainer",
    "decoding.name=guess": "guess",
    "window.step=99": "step of 99",
    "window.cutoff=0": "cutoff",
    "suite.beir.depth=0": "depth",
    "suite.beir.metrics=[ndgc@10]": "ndgc@10",
    "suite.beir.first_stage=none.trec": "none.trec",
    "collection.folder=???": "collection.folder",
    "collection.folder=nowhere": "nowhere",
    "collection.split=dev": "dev",
    "encoder.name=nowhere/none": "nowhere/none",
    "backbone.name=nowhere/none": "nowhere/none",
    "first_stage.k1=-1": "k1",
    "first_stage.stemmer=none_such": "none_such",
    "ckpt_path=none.ckpt": "none.ckpt",
    "ckpt_path=WORLD": "no checkpoint",
    "ckpt_path=WORLD/collection/corpus.jsonl": "corpus.jsonl",
    "projector.path=none.safetensors": "none.safetensors",
    "projector.path=WORLD/encoder/model.safetensors": "not those expected",
    "seed=${nowhere}": "nowhere",
    "seed=[": "seed",
    "stage._target_=perank.stages.none": "perank.stages.none",
    "optimizer._target_=perank.none.AdamW": "perank.none",
}


def commands() -> Iterator[Command]:
    """All commands."""
    for setting, said in SETTINGS.items():
        yield Command(f"config: {setting}", (setting,), said)
    rows = "data.rows_path=WORLD/rows.jsonl"
    run_file = ("teacher=run", "teacher.path=WORLD/t.trec")
    files = {
        "corpus: broken line": (_append("collection/corpus.jsonl", "{\n"), (), "corpus.jsonl:41"),
        "corpus: duplicate id": (_append("collection/corpus.jsonl", '{"_id": "p1", "text": "x"}\n'), (), "'p1'"),
        "corpus: missing text": (_text_out_of("collection/corpus.jsonl"), (), "corpus.jsonl:3"),
        "queries: empty query": (_append("collection/queries.jsonl", '{"_id": "q99", "text": ""}\n'), (), "'q99'"),
        "queries: missing text": (_text_out_of("collection/queries.jsonl"), (), "queries.jsonl:3"),
        "qrels: unknown query": (_append("collection/qrels/train.tsv", "q77\tp1\t1\n"), (), "'q77'"),
        "qrels: broken line": (_append("collection/qrels/test.tsv", "q1 p1 1\n"), (), "test.tsv:7"),
        "rows: unknown passage": (_append("rows.jsonl", ROW), (rows,), "rows.jsonl:1, id 'nowhere'"),
        "rows: unknown query": (_append("rows.jsonl", STRANGER * 4), (rows, "prompt.query_slot=true"), "'q99'"),
        "rows: broken line": (_append("rows.jsonl", "\n{"), (rows,), "rows.jsonl:2"),
        "rows: missing file": (lambda world: None, (rows,), "rows.jsonl"),
        "rows: empty file": (_append("rows.jsonl", ""), (rows,), "no rows"),
        "teacher: missing run": (lambda world: None, run_file, "t.trec"),
        "teacher: run of other queries": (_append("t.trec", "q1 Q0 p1 1 1 t\n"), run_file, "teacher"),
        "encoder: torn weights": (_append("encoder/config.json", "{"), (), "encoder"),
        "llm: torn config": (_append("llm/config.json", "{"), (), "llm"),
    }  # fmt: skip
    for name, (spoil, arguments, said) in files.items():
        yield Command(name, arguments, said, spoil)
    for name, arguments, said in [
        ("align: texts to align on", ("data.rows=0",), "data.rows"),
        ("align: text tokens", ("data.text_tokens=0",), "data.text_tokens"),
        ("align: unknown setting", ("+data.pools=[dense]",), "data.pools"),
    ]:
        yield Command(name, arguments, said, stage="align")
    for name, arguments, said in [
        ("evaluate: no such model", ("model=nowhere/none",), "nowhere/none"),
        ("evaluate: no such run", ("run=none.trec",), "none.trec"),
        ("evaluate: broken run", ("run=WORLD/collection/corpus.jsonl",), "corpus.jsonl:1"),
        ("evaluate: misspelt setting", ("batchsize=3",), "batchsize"),
        ("evaluate: batch size", ("batch_size=many",), "batch_size"),
        ("evaluate: unknown suite", ("suite=nfcorpsu",), "nfcorpus"),
    ]:
        yield Command(name, arguments, said, entry=evaluate)
