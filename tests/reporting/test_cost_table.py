"""The table of costs: ratios to text listwise reranking in the same place, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path

from perank.reporting.figures import phase_bars
from perank.reporting.rows import ResultRow
from perank.reporting.tables import latency_table


def row(system: str, metric: str, value: float, collection: str = "dl19", **more: object) -> ResultRow:
    place = {"candidates": 100, "window": 20, "step": 10, "device": "CPU, 1 core"} | more
    return ResultRow(system=system, metric=metric, value=value, collection=collection, **place)  # type: ignore[arg-type]


ROWS = [
    row("text listwise", "seconds_per_query", 8.0, variant="full answers"),
    row("text listwise", "seconds_per_query", 4.0, variant="top 10 exact"),
    row("PE-Rank", "seconds_per_query", 1.0),
    row("PE-Rank", "tokens_generated", 180.0),
    row("PE-Rank", "seconds_per_query", 1.0, collection="nfcorpus"),
    row("passages", "tokens_per_passage", 86.7),
]


def test_seconds_are_compared_with_full_answers_in_the_same_place() -> None:
    lines = latency_table(ROWS).splitlines()
    assert lines[0].startswith("| collection | n | w/s | system | variant | # Gen. | seconds | of texts |")
    assert [line.split(" | ")[-1].strip(" |") for line in lines[2:]] == ["1.000", "0.500", "0.125", ""]
    assert "180.0" in lines[4] and "passages" not in "".join(lines[2:])


def test_phases_are_drawn(tmp_path: Path) -> None:
    seconds = [row("PE-Rank", f"seconds_{phase}", 0.1) for phase in ("encode", "prefill", "decode")]
    for rows in (seconds, [*seconds, row("PE-Rank", "seconds_encode", 0.2, collection="nfcorpus")]):
        phase_bars(rows, str(tmp_path / "phases.png"), "title")
        assert (tmp_path / "phases.png").stat().st_size > 1000
