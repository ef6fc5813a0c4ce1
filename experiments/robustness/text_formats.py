"""The text formats: a good line or two of each, and the lines its reader has to refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perank.evaluation.result import read_per_query
from perank.preparation.authors_jsonl import read_alignment, read_ranking
from perank.sources.beir import read_beir_qrels
from perank.sources.texts import read_passages, read_queries
from perank.sources.trec import read_qrels, read_run
from perank.training.rows import read_rows

ROW = {"query_id": "q1", "query": "which otter", "passages": ["a", "b", "c"], "order": [2, 0, 1]}
SLOTS = "<PLACEHOLDER> <PLACEHOLDER>"
ALIGNMENT = {
    "messages": [{"role": "user", "content": "say <PLACEHOLDER>"}, {"role": "assistant", "content": "one"}],
    "extra_texts": ["one"],
}
RANKING = {
    "messages_w_content": [{"role": "user", "content": f"rank {SLOTS} one two"}],
    "messages_wo_content": [{"role": "user", "content": f"rank {SLOTS}"}],
    "ranking": [2, 1],
    "extra_texts": ["one", "two", "two", "one"],
}


@dataclass(frozen=True)
class Format:
    """A reader, a file it reads, and lines it must refuse: defect -> line (None in `named` where no line can be)."""

    name: str
    file: str
    read: Callable[[Path], Any]
    good: tuple[str, ...]
    bad: dict[str, str]
    named: tuple[str, ...] = ("path", "line")
    whole: dict[str, str] = field(default_factory=dict)


def changed(row: dict[str, Any], **changes: Any) -> str:
    """A row's JSON line with some fields replaced; `...` leaves a field out."""
    return json.dumps({key: value for key, value in {**row, **changes}.items() if value is not ...})


def json_defects(row: dict[str, Any], texts: tuple[str, ...]) -> dict[str, str]:
    """What any JSONL line may suffer: cut short, no object, a field gone or of another type, half a surrogate."""
    line = json.dumps(row)
    bad = {f"cut after {n} characters": line[:n] for n in (1, len(line) // 2, len(line) - 1)}
    bad |= {"an array": "[1]", "a number": "7", "null": "null", "two objects": line + line, "single quotes": "{'a': 1}"}
    first = next(iter(row))
    bad |= {"a key twice": f'{{"{first}": "x", {line[1:]}'}
    bad |= {"a number of 5,000 digits": '{"_id": ' + "9" * 5000 + "}", "nested 100,000 deep": "[" * 100_000}
    for name in row:
        if name != "title":
            bad[f"{name} missing"] = changed(row, **{name: ...})
            bad[f"{name} null"] = changed(row, **{name: None})
    for name in texts:
        bad[f"{name} a number"] = changed(row, **{name: 3})
        bad[f"{name} half a surrogate pair"] = changed(row, **{name: "\ud800"})
    return bad


PASSAGE = {"_id": "b", "text": "two", "title": "T"}
QUERY = {"_id": "q2", "text": "two"}

FORMATS = [
    Format(
        "BEIR corpus, passages.jsonl",
        "corpus.jsonl",
        read_passages,
        (changed(PASSAGE, _id="a"),),
        json_defects(PASSAGE, ("_id", "text", "title"))
        | {"id used before": changed(PASSAGE, _id="a", text="other"), "empty id": changed(PASSAGE, _id="")},
    ),
    Format(
        "BEIR queries",
        "queries.jsonl",
        read_queries,
        (changed(QUERY, _id="q1"),),
        json_defects(QUERY, ("_id", "text"))
        | {
            "id used before": changed(QUERY, _id="q1", text="other"),
            "empty id": changed(QUERY, _id=" "),
            "empty query": changed(QUERY, text=""),
            "blank query": changed(QUERY, text=" \t "),
        },
    ),
    Format(
        "BEIR qrels",
        "test.tsv",
        read_beir_qrels,
        ("query-id\tcorpus-id\tscore", "q1\ta\t1"),
        {
            "two fields": "q1\tb",
            "four fields": "q1\tb\t1\t2",
            "blanks for tabs": "q1 b 1",
            "grade a word": "q1\tb\thigh",
            "grade a fraction": "q1\tb\t1.5",
            "grade missing": "q1\tb\t",
            "pair twice": "q1\ta\t0",
            "no query": "\ta\t1",
            "no passage": "q1\t\t1",
            "grade in other digits": "q1\tb\t\u0663",
        },
        whole={"no header": "q1\ta\t1\n", "no header, a fraction": "q1\ta\t1.0\nq1\tb\t0.0\n"},
    ),
    Format(
        "TREC run",
        "run.trec",
        read_run,
        ("q1 Q0 a 1 9.5 t",),
        {
            "five columns": "q1 Q0 b 2 1",
            "seven columns": "q1 Q0 b 2 1 t t",
            "score a word": "q1 Q0 b 2 high t",
            "score nan": "q1 Q0 b 2 nan t",
            "score inf": "q1 Q0 b 2 inf t",
            "score too large": "q1 Q0 b 2 1e300 t",
            "rank a word": "q1 Q0 b two 1 t",
            "rank a fraction": "q1 Q0 b 1.5 1 t",
            "passage twice": "q1 Q0 a 2 1 t",
            "rank contradicts score": "q1 Q0 b 2 99 t",
            "score with underscore": "q1 Q0 b 2 1_0 t",
        },
    ),
    Format(
        "MS MARCO run",
        "run.tsv",
        read_run,
        ("q1\ta\t1",),
        {
            "two columns": "q1\tb",
            "six columns": "q1 Q0 b 2 1 t",
            "rank a word": "q1\tb\ttwo",
            "rank a fraction": "q1\tb\t1.5",
            "rank negative": "q1\tb\t-1",
            "rank twice": "q1\tb\t1",
            "passage twice": "q1\ta\t2",
        },
    ),
    Format(
        "TREC qrels",
        "qrels.txt",
        read_qrels,
        ("q1 0 a 1",),
        {
            "three columns": "q1 0 b",
            "five columns": "q1 0 b 1 1",
            "grade a word": "q1 0 b high",
            "grade a fraction": "q1 0 b 0.5",
            "pair twice": "q1 0 a 2",
        },
    ),
    Format(
        "queries.tsv",
        "queries.tsv",
        read_queries,
        ("q1\tone",),
        {
            "no tab": "q2 two",
            "no id": "\ttwo",
            "empty query": "q2\t",
            "blank query": "q2\t  ",
            "id used before": "q1\ttwo",
        },
    ),
    Format(
        "training rows",
        "rows.jsonl",
        read_rows,
        (json.dumps(ROW),),
        json_defects(ROW, ("query_id", "query"))
        | {
            "unknown field": changed(ROW, rank=1),
            "empty query": changed(ROW, query=""),
            "empty id": changed(ROW, query_id=""),
            "no passages": changed(ROW, passages=[], order=[]),
            "empty passage id": changed(ROW, passages=["a", " ", "c"]),
            "passages a text": changed(ROW, passages="abc"),
            "passage id a number": changed(ROW, passages=["a", 1, "c"]),
            "passage twice": changed(ROW, passages=["a", "b", "a"]),
            "order too short": changed(ROW, order=[0, 1]),
            "order repeats": changed(ROW, order=[0, 0, 1]),
            "order from 1": changed(ROW, order=[1, 2, 3]),
            "order of fractions": changed(ROW, order=[0.0, 1.0, 2.0]),
            "order of truth values": changed(ROW, order=[True, False, 2]),
        },
    ),
    Format(
        "authors' alignment rows",
        "align.jsonl",
        read_alignment,
        (json.dumps(ALIGNMENT),),
        json_defects(ALIGNMENT, ())
        | {
            "no answer": changed(ALIGNMENT, messages=ALIGNMENT["messages"][:1]),
            "roles swapped": changed(ALIGNMENT, messages=ALIGNMENT["messages"][::-1]),
            "a message without content": changed(ALIGNMENT, messages=[{"role": "user"}]),
            "fewer texts than slots": changed(ALIGNMENT, extra_texts=[]),
            "empty text": changed(ALIGNMENT, extra_texts=[" "]),
            "text a number": changed(ALIGNMENT, extra_texts=[1]),
            "unknown field": changed(ALIGNMENT, ranking=[1]),
            "their own token in a text": changed(ALIGNMENT, extra_texts=["<RANK>"]),
        },
    ),
    Format(
        "authors' ranking rows",
        "rank.jsonl",
        read_ranking,
        (json.dumps(RANKING),),
        json_defects(RANKING, ())
        | {
            "second half contradicts ranking": changed(RANKING, extra_texts=["one", "two", "one", "two"]),
            "second half missing": changed(RANKING, extra_texts=["one", "two"]),
            "ranking repeats": changed(RANKING, ranking=[1, 1]),
            "ranking from 2": changed(RANKING, ranking=[3, 2]),
            "ranking empty": changed(RANKING, ranking=[]),
            "ranking of words": changed(RANKING, ranking=["2", "1"]),
            "ranking of truth values": changed(RANKING, ranking=[True, False]),
            "too few slots": changed(RANKING, messages_wo_content=[{"role": "user", "content": "rank <PLACEHOLDER>"}]),
            "empty text": changed(RANKING, extra_texts=["", "two", "two", ""]),
        },
    ),
    Format(
        "per-query scores",
        "x.per_query.tsv",
        read_per_query,
        ("query\tndcg@10", "q1\t0.5"),
        {
            "a column missing": "q2",
            "a column too many": "q2\t1\t2",
            "score a word": "q2\thigh",
            "score nan": "q2\tnan",
            "query twice": "q1\t1",
            "no query": "\t1",
        },
        whole={"no header": "q1\t0.5\n", "empty": ""},
    ),
]
