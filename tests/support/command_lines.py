"""Command lines of every entry point, good and nearly good: strategies for hypothesis.

Their files are those of `support.entry_points.make_files`, by relative names: no line names a place outside its folder.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from omegaconf import OmegaConf

from perank.files import CONF_DIR
from support import toy

_KEPT = {
    "train": ("",), "doctor": ("",), "evaluate": ("suite", "encoder", "window"), "efficiency": ("suite", "encoder"),
    "encode": ("collection", "encoder"), "prepare": ("collection", "encoder", "backbone.name"),
}  # fmt: skip
_GOOD = {
    "train": ("data.rows=8", "evaluate=false"),
    "doctor": (),
    "encode": ("folder=new_store",),
    "evaluate": ("model=model", "dtype=float32", "device=cpu", "batch_size=8"),
    "efficiency": ("model=model", "queries=1", "text_queries=1", "layouts.table3_efficiency=[[4,4,2]]"),
    "rank": ("model=model", "input=in.jsonl", "output=out.jsonl", "dtype=float32", "progress=false"),
    "prepare": ("preparation.output=new.jsonl", "preparation.candidates=5", "device=cpu", "progress=false"),
    "tabulate": ("evaluated", "--output", "tables"),
    "serve": ("--model", "model", "--port", "0", "--log-level", "error"),
}
ENTRIES = tuple(_GOOD)  # `perank` runs them all but efficiency
_OTHER = {
    "rank": ["run=first.trec", "collection=texts", "collection.folder=collection", "store=store", "format=trec"],
    "evaluate": ["run=first.trec", "run=*.trec", "ranker=mono", "ranker=fusion", "compare=[bm25]", "calibrate=true"],
    "train": ["ckpt_path=trained", "start=trained", "start=model", "evaluate=true", "evaluate_every=1", "anchors=plus"],
    "doctor": ["gpu=rtx4090_24gb", "scale=paper", "trainer=gpu", "trainer=fsdp", "+experiment=align"],
    "encode": ["dtype=float32", "shard_rows=7", "folder=store", "batch_size=3", "collection=texts"],
    "prepare": ["preparation=to_authors", "preparation=wikipedia", "preparation.source=rows.jsonl", "teacher=run"],
    "efficiency": ["study=table6_windows", "into=tables", "quality=false", "dtype=float32"],
    "tabulate": ["trained", ".", "--study", "collection", "results.csv", "out.jsonl", "nowhere", "--output"],
    "serve": ["--store", "store", "--device", "--dtype", "--decoder", "--name", "--host", "--max-batch", "--workers"],
}  # fmt: skip
_FLAGS = [
    "--cfg", "job", "hydra", "all", "--cfg=job", "--resolve", "--package", "-p", "--help", "-h", "--hydra-help",
    "--info", "plugins", "config", "defaults", "searchpath", "-m", "--multirun", "--config-name", "-cn", "--config-dir",
    "--config-path", "--version", "--", "-", "--no-such-flag", "-x", "--experimental-rerun", "--run", "-sc",
]  # fmt: skip
_PATHS = [
    "model", "encoder", "llm", "store", "trained", "evaluated", "collection", "collection/corpus.jsonl", "first.trec",
    "in.jsonl", "rows.jsonl", "evaluated/results.csv", "model/config.json", "llm/model.safetensors", "nowhere", "a b",
    "nowhere/none", "空の/道.jsonl", "epoch=6/model", "~/data", "#1", "model/", "./model", ".", "*.trec", "[ab].trec",
]  # fmt: skip
_NUMBERS = ["0", "1", "2", "3", "7", "-1", "1.5", "1e-3", "nan", "inf", "-inf", "007", "1_000", "0x10", "1e400", "9999"]
_ODD = [
    "", "null", "true", "yes", "off", "''", '""', "[]", "{}", "[1,2]", "[a,[b]]", "{a:1}", "{a:{b:null}}", "???",
    "${seed}", "${nowhere}", "${oc.env:NOWHERE}", "${paths.output}", "${", "}", "[", "'", '"', "a,b", "1,2",
    "choice(1,2)", "range(1,3)", "glob(*)", "interval(0,1)", "str(3)", "int(x)", "x=y", "a:b", "\\", "\\'", "日本語",
    "é", "😀", "\udcff", "\t", "a\nb", "$(ls)", "%s", "{0}", "cuda", "cpu", "abacus", "auto", "float16", "bfloat16",
    "float32", "static", "single_pass", "constrained", "anchors", "int8", "box", "pypi:x", "perank.train.main",
]  # fmt: skip
_ONE_ONLY = ("workers", "devices", "nodes", "jobs")  # settings that start as many processes
_NEVER = ("hydra", "paths.data", "paths.shared", "logger", "trainer.strategy")  # elsewhere: settings that name places

_typed = st.text(max_size=8).map(lambda text: text.replace("\0", "").replace("/", "").replace("~", ""))
VALUES = st.one_of(*map(st.sampled_from, (_NUMBERS, _PATHS, _ODD)), _typed)


@cache
def settings_of(command: str) -> list[str]:
    """The settings that a good line composes, with their values."""
    config = "train" if command == "doctor" else command
    found = toy.composed_of(good_line(command), Path("output"), config=config)
    content = OmegaConf.to_container(found, resolve=False)
    return [setting for setting in _leaves(content) if not setting.startswith(_NEVER)]


@cache
def choices() -> list[str]:
    """Every choice of every group."""
    files = sorted(CONF_DIR.glob("*/*.yaml"))
    return [f"{path.parent.name}={path.stem}" for path in files if path.parent.name not in _NEVER]


def good_line(entry: str) -> list[str]:
    """A command line that runs."""
    kept = [each for each in toy.overrides("WORLD") if each.startswith(_KEPT.get(entry, ("window.",)))]
    return [each.replace("WORLD/", "") for each in kept if entry in _KEPT or entry == "rank"] + list(_GOOD[entry])


def _leaves(node: Any, place: str = "") -> list[str]:
    if not isinstance(node, dict) or not node:
        return [f"{place}={node}"]
    return [leaf for key, value in node.items() for leaf in _leaves(value, f"{place}.{key}".lstrip("."))]


def _misspelt(word: str, place: int) -> str:
    """`word` with two letters swapped, or one missing."""
    at = place % max(1, len(word))
    return (
        word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :]
        if place % 2
        else word[:at] + word[at + 1 :]
    )


_FORMS = ["{k}='{v}'", '{k}="{v}"', "{k}='{v}", "{k}=[{v}]", "{k}= {v}", "{k}={v}{n}", "{k}={v},{n}", "+{k}={v}",
    "++{k}={n}", "~{k}", "~{k}={v}", "{k}=", "{k}", "{k}={{{v}}}", "{t}={v}", "{k}={t2}", "{k}.x={v}", "{k}@x={v}",
    "{k}:{v}", "{k}=={v}", "{n}", "--{k}={v}", "{k}='{n}'"]  # fmt: skip


def _like(value: str) -> st.SearchStrategy[str]:
    """Values of the same kind."""
    if value in ("true", "false", "True", "False"):
        return st.sampled_from(["true", "false"])
    return st.sampled_from(_NUMBERS[:8]) if value.replace(".", "").isdigit() else st.just(value)


@st.composite
def _changed(draw: st.DrawFn, word: str) -> str:
    """One argument, changed: most often its value."""
    key, equals, value = word.partition("=")
    form = "{k}={n}" if draw(st.integers(0, 9)) < 6 else draw(st.sampled_from(_FORMS))
    place, new = draw(st.integers(0, 40)), draw(_like(value) | VALUES)
    if any(part in key for part in _ONE_ONLY):
        form, new = "{k}={n}", draw(st.sampled_from(["0", "1", "-1", "x", "1.5", "null", "[]"]))
    return form.format(k=key, v=value, n=new, t=_misspelt(key, place), t2=_misspelt(value, place)) if equals else new


@st.composite
def _line(draw: st.DrawFn, entry: str) -> list[str]:
    line, plain = good_line(entry), entry in ("tabulate", "serve")
    kinds = ["change", "change", "drop", "other", "other", "flag"] + (
        [] if plain else ["set", "set", "set", "set", "choose", "repeat"]
    )
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=draw(st.sampled_from([1, 1, 1, 2, 3])))):
        at = draw(st.integers(0, max(0, len(line) - 1)))
        if kind == "change" and line:
            line[at] = draw(_changed(line[at]))
        elif kind == "drop" and line:
            line.pop(at)
        elif kind == "repeat" and line:
            line.append(line[at])
        else:
            line.insert(draw(st.sampled_from([0, len(line)])), draw(_more(entry, kind)))
    return line


def _more(entry: str, kind: str) -> st.SearchStrategy[str]:
    if kind == "flag":
        return st.sampled_from(_FLAGS)
    if kind == "choose":
        return st.sampled_from(choices())
    if kind == "set":
        return st.sampled_from(settings_of(entry)).flatmap(_changed)
    return st.sampled_from(_OTHER[entry]) | VALUES


@st.composite
def command_lines(draw: st.DrawFn, entry: str) -> list[str]:
    """Arguments of an entry point; `perank`, the console command, gets those of any other behind a word."""
    if entry != "perank":
        return draw(_line(entry))
    other = draw(st.sampled_from([each for each in ENTRIES if each != "efficiency"]))
    word = draw(
        st.sampled_from([other, other, other, other, _misspelt(other, 1), "-V", "help", "--help", "", "--", "RANK"])
    )
    return [word, *draw(_line(other))]
