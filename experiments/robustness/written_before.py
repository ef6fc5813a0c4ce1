"""Read what an earlier version of perank wrote, and compare with what that version itself makes of it.

    python experiments/robustness/written_before.py --before ../perank-before      # a checkout of that version

The earlier version writes saved models (adapters, a whole LLM, a text ranker, the authors' layout), projector files,
embedding stores (whole and half-finished) and training runs of a tiny random world. Then both versions load, rank,
resume and finish all of it, each in a process and with a cache of its own. Rankings, weights, losses and files must
agree to the last bit.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("write", "read")
SHORT = ["prompt.version=compact", "prompt.max_length=2048", "prompt.text_tokens=48", "++optimizer.projector_lr=null"]
STAGES = {"align": [], "rank": [], "rankmistral": SHORT}
AUTHORS = ("perank.saving.authors_checkpoint", "perank.model.published")
LORA_LLM = {"r": 2, "alpha": 6, "dropout": 0.0, "targets": ("q_proj", "down_proj")}


def main() -> None:
    """Parse, run both versions, print what agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the version that writes")
    parser.add_argument("--role", choices=ROLES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role is not None:
        {"write": write, "read": report}[options.role](options.folder, options.scratch)
        return
    if options.before is None:
        parser.error("name the earlier checkout with --before")
    with tempfile.TemporaryDirectory() as folder:
        found = compared(options.before.resolve(), Path(folder))
    for name, agrees in found.items():
        print(f"{'agrees' if agrees else 'DIFFERS':8} {name}")
    print(f"{sum(found.values())} of {len(found)} agree")
    sys.exit(0 if found and all(found.values()) else 1)


def compared(before: Path, folder: Path) -> dict[str, bool]:
    """What was read -> whether the two versions read the same."""
    run(before, "write", folder / "written", folder / "scratch-write")
    readings = {}
    for name, checkout in {"before": before, "now": ROOT}.items():
        run(checkout, "read", folder / "written", folder / f"scratch-{name}")
        readings[name] = json.loads((folder / f"scratch-{name}" / "values.json").read_text())
    names = dict.fromkeys([*readings["before"], *readings["now"]])
    return {name: readings["before"].get(name) == readings["now"].get(name) is not None for name in names}


def run(checkout: Path, role: str, folder: Path, scratch: Path) -> None:
    """One role in a process that imports the perank and the tests' helpers of that checkout."""
    scratch.mkdir(parents=True)
    path = os.pathsep.join([str(checkout / "src"), str(checkout / "tests")])
    environment = os.environ | {"PYTHONPATH": path, "PERANK_CACHE": str(scratch / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--role", role, "--folder", str(folder), "--scratch", str(scratch)]
    subprocess.run(command, env=environment, check=True)


def named(names: str | tuple[str, ...], *modules: str) -> Any:
    """The first of these names in the first of these modules: both have changed between versions."""
    for module in modules:
        for name in [names] if isinstance(names, str) else names:
            try:
                return getattr(importlib.import_module(module), name)
            except (ModuleNotFoundError, AttributeError):
                continue
    raise SystemExit(f"none of {', '.join(modules)} has {names}")


def helpers() -> tuple[Any, Any]:
    """The tests' tiny parts and toy world."""
    try:
        from support import tiny, toy
    except ModuleNotFoundError:
        import tiny  # type: ignore[import-not-found, no-redef]
        import toy  # type: ignore[import-not-found, no-redef]
    return tiny, toy


def write(folder: Path, scratch: Path) -> None:
    """Everything that a version leaves on a disk."""
    tiny, toy = helpers()
    toy.make_world(folder / "world")
    write_models(folder, tiny)
    write_stores(folder, tiny)
    train = named("train", "perank.train")
    for stage, more in STAGES.items():
        train(toy.composed(folder / "world", folder / stage, stage, *settings_of(stage, toy), *more))
    more = [*settings_of("rankmistral", toy), *STAGES["rankmistral"], "backbone.lora=null", "evaluate=false"]
    train(toy.composed(folder / "world", folder / "rankmistral-whole", "rankmistral", "data.rows=8", *more))


def settings_of(stage: str, toy: Any) -> list[str]:
    """What the toy world's own overrides lack for RankMistral's stage."""
    drawing = ["data.candidates=5", "data.pool_depth=20", "trainer.accumulate_grad_batches=1", *toy.LORA]
    return drawing if stage == "rankmistral" else []


def write_models(folder: Path, tiny: Any) -> None:
    """Saved models of every kind, and both projector files."""
    import torch

    save_pretrained = named("save_pretrained", "perank.saving.hub", "perank.model.hub")
    settings_class = (
        named("LLMSettings", "perank.model.llm") if has("perank.saving") else named("LLM", "perank.model.llm")
    )
    projector_class = named("Projector", "perank.model.projector")
    pe_rank = named("PERank", "perank.model.pe_rank", "perank.model.backbone")
    lora = named("Lora", "perank.model.lora", "perank.model.llm")(**LORA_LLM)
    world = folder / "world"
    encoder = named("Encoder", "perank.model.encoders.encoder", "perank.model.encoder")(
        str(world / "encoder"), max_length=32, query_prefix="query : "
    )
    prompts = tiny.tiny_prompts(max_length=300, text_tokens=9)
    for name, settings in {
        "lora": settings_class(name=str(world / "llm"), lora=lora),
        "whole": settings_class(name=str(world / "llm")),
    }.items():
        torch.manual_seed(len(name))
        model = pe_rank(settings.load(), projector_class(8, 16), score_scale=0.7, residual=0.25)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        save_pretrained(
            folder / name, model, llm=settings, prompts=prompts, encoder=encoder, window=4, step=2, dtype="float32"
        )
    named("save_projector", "perank.model.projector_io", "perank.model.projector_init", "perank.model.start")(
        model.projector, folder / "projector.safetensors"
    )
    named(("write_authors_projector", "write_projector"), "perank.model.projector_io", "perank.model.projector_file")(
        folder / "projector.bin", model.projector
    )
    write_authors(folder, tiny, encoder)


def write_authors(folder: Path, tiny: Any, encoder: Any) -> None:
    """A checkpoint in the authors' layout."""
    import torch

    write_checkpoint = named(("write_authors_checkpoint", "write_published"), *AUTHORS)
    model = tiny.tiny_model(5, dtype=torch.float32, layers=1)
    write_checkpoint(folder / "authors", model, tiny.tiny_prompts("reference"), encoder)


def has(module: str) -> bool:
    """Whether this version has that module."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError:
        return False
    return True


def texts_of(world: Path) -> dict[str, str]:
    """Passage id -> text."""
    rows = map(json.loads, (world / "collection" / "corpus.jsonl").read_text().splitlines())
    return {row["_id"]: row["text"] for row in rows}


def write_stores(folder: Path, tiny: Any) -> None:
    """A whole store of several shards, one that was left after two of them, and one in the cache."""
    from perank.retrieval.encoding import cached_store
    from perank.retrieval.store_writer import StoreWriter

    encoder, texts = tiny.tiny_encoder(folder / "world" / "encoder"), texts_of(folder / "world")
    for name, count in {"store": len(texts), "half": 20}.items():
        with StoreWriter(folder / name, encoder.identity, encoder.width, "float16", 10) as writer:
            for chunk in writer.pending(list(texts.items())[:count]):
                writer.write(chunk, encoder.encode_passages(chunk.texts).numpy())
            if name == "store":
                writer.finish()
    cached_store("toy", passages_of(texts), encoder)
    shutil.copytree(os.environ["PERANK_CACHE"], folder / "cache")


def passages_of(texts: dict[str, str]) -> dict[str, Any]:
    """The same as records."""
    passage = named("Passage", "perank.records")
    return {id: passage(id, text) for id, text in texts.items()}


def report(folder: Path, scratch: Path) -> None:
    """Read everything, write what came of it to values.json."""
    tiny, toy = helpers()
    values: dict[str, Any] = {}
    for part in (rankings, projectors, stores, runs):
        values |= dict(part(folder, scratch, tiny, toy))
    (scratch / "values.json").write_text(json.dumps(values, indent=1))


Values = Iterator[tuple[str, Any]]


def rankings(folder: Path, scratch: Path, tiny: Any, toy: Any) -> Values:
    """Weights as loaded, and rankings of five passages, of every saved model."""
    from_pretrained = named("from_pretrained", "perank.saving.hub", "perank.model.hub")
    reranker = named("Reranker", "perank")
    for name in ("lora", "whole", "rank/model"):
        for merge in (True, False):
            found = from_pretrained(folder / name, dtype="float32", merge=merge)
            state = {key: value.clone() for key, value in found.model.state_dict().items()}
            yield f"{name}, merge={merge}: weights", toy.digest(state)
            yield f"{name}, merge={merge}: settings", [found.window, found.step, found.encoder.identity["pooling"]]
        ranking = reranker.from_pretrained(folder / name, dtype="float32").rank_batch([tiny.FIVE])[0]
        yield f"{name}: ranking", [list(ranking.order), ranking.bill.forwards, ranking.bill.tokens_processed]
    yield "authors' layout: weights and encoder", authors(folder, toy)
    trained_listwise = named(("TrainedListwiseRanker", "trained_listwise"), "perank.baselines.loading")
    for name in ("rankmistral", "rankmistral-whole"):
        found = trained_listwise(name=str(folder / name / "model"), dtype="float32", device="cpu")
        ranking = found.rank_batch([tiny.FIVE])[0]
        yield f"{name}: ranking", [list(ranking.order), ranking.bill.tokens_generated, ranking.bill.repairs]


def authors(folder: Path, toy: Any) -> list[str]:
    """Digests of a model in the authors' layout; its encoder takes fewer tokens than their default."""
    read_checkpoint = named(("read_authors_checkpoint", "read_published"), *AUTHORS)
    encoder = named("Encoder", "perank.model.encoders.encoder", "perank.model.encoder")
    found = read_checkpoint(folder / "authors", encoder=encoder(str(folder / "world" / "encoder"), max_length=32))
    return [toy.digest(found.model.state_dict()), found.encoder.pooling, found.prompts.version]


def projectors(folder: Path, scratch: Path, tiny: Any, toy: Any) -> Values:
    """The tensors of both projector files, and of the folder of an align run."""
    load = named("load_projector", "perank.model.projector_io", "perank.model.projector_init", "perank.model.start")
    projector_class = named("Projector", "perank.model.projector")
    for name in ("projector.safetensors", "projector.bin", "align"):
        projector = projector_class(8, 16)
        load(projector, folder / name)
        yield f"{name}: tensors", toy.digest(projector.state_dict())


def stores(folder: Path, scratch: Path, tiny: Any, toy: Any) -> Values:
    """Vectors of a whole store, the bytes of a half-finished one when it is finished, and one found in the cache."""
    from perank.retrieval.encoding import encode_into, finished_store
    from perank.retrieval.store import EmbeddingStore

    encoder, texts = tiny.tiny_encoder(scratch / "encoder"), texts_of(folder / "world")
    encoder = type(encoder)(str(folder / "world" / "encoder"), max_length=32)
    store = EmbeddingStore.open(folder / "store", encoder.identity)
    store.verify()
    yield "store: vectors", digest(store.get(list(texts)[::-1]).tobytes())
    half = EmbeddingStore.open(folder / "half")
    yield "half a store: state", [len(half), half.complete]
    shutil.copytree(folder / "half", scratch / "half")
    encode_into(scratch / "half", texts, encoder, **options_of(encode_into, shard_rows=10, progress=False))
    yield "half a store, finished: files", files(scratch / "half", lambda path: not path.name.startswith("."))
    os.environ["PERANK_CACHE"], own = str(folder / "cache"), os.environ["PERANK_CACHE"]
    cached = finished_store("toy", passages_of(texts), encoder)
    yield "store in the cache: folder", None if cached is None else cached.folder.name
    os.environ["PERANK_CACHE"] = own


def options_of(call: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Options by name, or in the dataclass that later versions bundle them in."""
    if "options" not in call.__annotations__:
        return options
    return {"options": named("StoreOptions", "perank.retrieval.encoding")(**options)}


def runs(folder: Path, scratch: Path, tiny: Any, toy: Any) -> Values:
    """Runs resumed from their checkpoints of step 5: weights, losses and rankings in the end."""
    train = named("train", "perank.train")
    for stage, more in STAGES.items():
        checkpoint = folder / stage / "checkpoints" / "step-000005.ckpt"
        output = scratch / stage
        settings = [*settings_of(stage, toy), *more, f"ckpt_path={checkpoint}"]
        scores = train(toy.composed(folder / "world", output, stage, *settings))
        before = toy.losses(folder / stage)
        yield f"{stage} resumed: scores", scores
        yield f"{stage} resumed: losses", toy.losses(output)
        yield f"{stage} resumed: weights", files(output / "model", is_weights)
        yield f"{stage} resumed: rankings", files(output, is_run)
        as_whole = [before[step] == loss for step, loss in toy.losses(output).items()]
        as_whole += [files(output, kind) == files(folder / stage, kind) for kind in (is_weights, is_run)]
        yield f"{stage} resumed: ends as the uninterrupted run", all(as_whole) or None


def is_weights(path: Path) -> bool:
    """Whether a file of a model or a projector holds its numbers."""
    return path.suffix == ".safetensors"


def is_run(path: Path) -> bool:
    """Whether a file holds rankings."""
    return path.suffix == ".trec"


def files(folder: Path, wanted: Callable[[Path], bool]) -> dict[str, str]:
    """Name -> SHA-256 of the folder's files."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and wanted(path))
    return {str(path.relative_to(folder)): digest(path.read_bytes()) for path in paths}


def digest(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
