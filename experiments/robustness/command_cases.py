"""Malformed input at the front door: the exit codes of all commands, and what they leave."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import settings_cases

from perank.doctor import main as doctor
from perank.efficiency import main as efficiency
from perank.encode import main as encode
from perank.evaluate import main as evaluate
from perank.prepare import main as prepare
from perank.train import main as train
from support import toy

MISSPELT = {"encodr", "batchsize", "write decoding="}  # keys that don't exist; the other cases are about values
NEVER = ("*.part", "*.ckpt", "model", "projector.safetensors", "metrics.json", "results.csv")

_KEPT = {  # of the toy run's overrides
    evaluate: ("suite", "encoder", "window"),
    encode: ("collection", "encoder"),
    prepare: ("collection", "encoder", "backbone.name"),
    efficiency: ("suite", "encoder"),
}
_MORE = {prepare: ("preparation.output=WORLD/rows.out.jsonl",)}


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
    world, output = Path(shutil.copytree(_world(), folder / "world")), folder / "run"
    command.spoil(world)
    kept = _KEPT.get(command.entry, ("",))
    stage = [override for override in toy.overrides(world, command.stage) if override.startswith(kept)]
    given = (*_MORE.get(command.entry, ()), *command.arguments)
    arguments = [argument.replace("WORLD", str(world)) for argument in given]
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
    if "Could not override" in message and command.says not in MISSPELT:
        return f"Hydra refused the key before perank saw the value: {message!r}"
    if code != 2 or left or command.says not in message or "Traceback" in said:
        return f"exit code {code}, left {left}, said {message!r}"
    return "refused"


@cache
def _world() -> Path:
    return toy.make_world(Path(tempfile.mkdtemp(prefix="world-")))


def _append(file: str, text: str) -> Callable[[Path], object]:
    return partial(_write, file, text)


def _instead(file: str, judgements: str) -> Callable[[Path], object]:
    return lambda world: (world / file).write_text("query-id\tcorpus-id\tscore\n" + judgements)


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
OTHERS = "".join(f"q{i}\tv2-{i}\t1\n" for i in range(12))
STRANGER = '{"query_id": "q99", "query": "otter", "passages": ["p1", "p2"], "order": [0, 1]}\n'


def commands() -> Iterator[Command]:
    """All commands."""
    for name, entry, stage, settings in [
        ("config", train, "rank", settings_cases.TRAIN),
        ("align", train, "align", settings_cases.ALIGN),
        ("evaluate", evaluate, "rank", settings_cases.EVALUATE),
        ("encode", encode, "rank", settings_cases.ENCODE),
        ("prepare", prepare, "rank", settings_cases.PREPARE),
        ("doctor", doctor, "rank", settings_cases.DOCTOR),
        ("efficiency", efficiency, "rank", settings_cases.EFFICIENCY),
    ]:
        for setting, said in settings.items():
            yield Command(f"{name}: {setting}", (setting,), said, entry=entry, stage=stage)
    rows = "data.rows_path=WORLD/rows.jsonl"
    run_file = ("teacher=run", "teacher.path=WORLD/t.trec")
    files = {
        "corpus: broken line": (_append("collection/corpus.jsonl", "{\n"), (), "corpus.jsonl:41"),
        "corpus: duplicate id": (_append("collection/corpus.jsonl", '{"_id": "p1", "text": "x"}\n'), (), "'p1'"),
        "corpus: missing text": (_text_out_of("collection/corpus.jsonl"), (), "corpus.jsonl:3"),
        "queries: empty query": (_append("collection/queries.jsonl", '{"_id": "q99", "text": ""}\n'), (), "'q99'"),
        "queries: missing text": (_text_out_of("collection/queries.jsonl"), (), "queries.jsonl:3"),
        "qrels: of other queries": (_instead("collection/qrels/test.tsv", "q77\tp1\t1\n"), (), "'q77'"),
        "qrels: of another corpus": (_instead("collection/qrels/test.tsv", "q13\tv2-13\t1\n"), (), "relevant passages"),
        "qrels: of another corpus, train": (_instead("collection/qrels/train.tsv", OTHERS), (), "relevant"),
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
    yield from _reported()


def _reported() -> Iterator[Command]:
    """Kinds of faults that users of such tools report."""
    blank = json.dumps({"_id": "p 13", "text": "otter river"}) + "\n"
    collection = "suite.beir.collection.folder="
    yield Command(
        "evaluate first: an id with a blank",
        ("suite.beir.depth=41",),
        "can't hold",
        _append("collection/corpus.jsonl", blank),
    )
    yield Command("evaluate first: queries too long", ("on_failure=stop",), "1024 fit", _long_queries)
    yield Command("metrics: unknown", ("+suite.beir.metrics=[ndgc@10]",), "unknown metric", entry=evaluate)
    yield Command("judgements: headerless", (), "test.tsv:1", _headerless)
    yield Command(
        "runs: ranks twice", ("run=WORLD/r.tsv",), "occurs twice", _append("r.tsv", "q1 p1 1\nq1 p2 1\n"), evaluate
    )
    yield Command("grammar: an equals sign", (f"{collection}WORLD/epoch=6",), "quote it", entry=evaluate)
    yield Command("wandb: a long tag", ("logger=wandb", f"+labels.study={'s' * 65}"), "logger.wandb.tags")
    fusion = ("teacher=fused", "+teacher.fusion={log_rank:1}")
    yield Command("groups: a fusion without a _target_", fusion, "with a _target_")
    yield Command("resume: an unknown folder", ("ckpt_path=WORLD/nowhere",), "nowhere")
    yield Command("bm25: an unknown analyzer", ("first_stage.analyzer=chinese",), "multilingual")


def _long_queries(world: Path) -> None:
    path = world / "collection" / "queries.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    toy.write_jsonl(path, {row["_id"]: row["text"] + " otter" * 3000 for row in rows})


def _headerless(world: Path) -> None:
    (world / "collection" / "qrels" / "test.tsv").write_text("q13\tp13\t1.0\nq14\tp14\t1.0\n")
