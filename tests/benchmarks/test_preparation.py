"""The benchmark of preparation on a tiny corpus: every part gives the same results before and after, and is timed."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from support import tiny
from support.scripts import benchmark
from support.tiny_families import chat_tokenizer

pytest.importorskip("ir_datasets")
bench = benchmark("preparation")


def test_every_part_agrees_with_what_it_was_and_is_timed(tmp_path: Path) -> None:
    corpus = bench.Corpus(tmp_path, 300)
    parts = list(bench.parts_of(corpus, 3, chat_tokenizer(), tiny.tiny_prompts("reference")))
    bench.report(parts, rounds=1, results=tmp_path / "rates.csv")
    rows = list(csv.DictReader((tmp_path / "rates.csv").read_text().splitlines()))
    assert [row["part"] for row in rows] == [part.name for part in parts]
    assert all(float(row[f"{name}_per_second"]) > 0 for row in rows for name in (bench.BEFORE, bench.AFTER))


def test_parts_that_disagree_are_not_timed() -> None:
    with pytest.raises(SystemExit, match="odd: the results differ"):
        bench.report([bench.Part("odd", 1, 1.0, lambda: 1, lambda: 2)], rounds=1)


def test_hours_are_those_of_the_whole_at_the_measured_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "seconds_by_turns", lambda *_, **__: {bench.BEFORE: [20.0], bench.AFTER: [5.0]})
    row = bench.Part("encode", 10, 36_000.0, lambda: 1, lambda: 1, gpu=1.0).row(1)
    assert (row["before_per_second"], row["after_per_second"]) == ("0.5", "2.0")
    assert (row["before_hours_of_msmarco"], row["after_hours_of_msmarco"]) == ("30.00", "10.00")
