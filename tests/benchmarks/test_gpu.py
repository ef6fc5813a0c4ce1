"""The scripts for a GPU run at tiny sizes on a CPU, write rows that can be read, and keep to their budget."""

from __future__ import annotations

import runpy
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from perank.files import PACKAGE_DIR
from perank.reporting.rows import ResultRow, read_results_csv
from support import toy

SCRIPTS = PACKAGE_DIR.parent.parent / "benchmarks" / "gpu"
pytestmark = [*toy.QUIET, pytest.mark.filterwarnings("ignore:.*torch.distributed.*")]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.syspath_prepend(str(SCRIPTS.parent))


def run(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> None:
    """Run a script as `python <script> --device cpu` does."""
    monkeypatch.setattr(sys, "argv", [script, "--device", "cpu", *arguments])
    runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")


def smoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, *arguments: str) -> list[ResultRow]:
    """The rows of a smoke run."""
    into = tmp_path / "results.csv"
    run(monkeypatch, script, "--smoke", "--into", str(into), *arguments)
    rows = read_results_csv(into)
    assert {(row.study, row.device.split(",")[0]) for row in rows} == {(f"gpu_{script}", "CPU")}
    assert (rows[-1].system, rows[-1].metric) == ("script", "seconds")
    return rows


def values(rows: list[ResultRow], metric: str) -> dict[str, float]:
    """Variant (or encoder) -> value."""
    return {row.variant or row.encoder: row.value for row in rows if row.metric == metric}


def test_infer_times_every_way_of_decoding_next_to_the_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = smoke(monkeypatch, tmp_path, "infer")
    ways = ["speculative", "static, eager", "static, graphs", "static, lean, graphs"]
    seconds = values(rows, "seconds_per_query")
    assert list(seconds) == [f"{way}, {n} together" for n in (1, 2) for way in ways]
    assert len(set(values(rows, "forwards_per_query").values())) <= 4  # one and the same ranking, by other shapes
    least, taken = values(rows, "ms_draft_at_least"), values(rows, "ms_draft")
    assert len(least) == 6
    assert all(0 < least[variant] < taken[variant] for variant in least)
    assert len(values(rows, "seconds_per_query_with_measured_acceptance")) == 4


def test_a_train_step_of_every_case_has_a_share_of_the_peak(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = smoke(monkeypatch, tmp_path, "train_step")
    shares = values(rows, "share_of_peak")
    trained = {"rank, LoRA", "align, checkpointing", "rank, every weight", "rank, every weight, FSDP"}
    assert trained <= shares.keys()
    assert all(0 < share < 1 for share in shares.values())
    said = capsys.readouterr().out
    assert ("rank, every weight, ZeRO-2" in shares) != ("skipped: rank, every weight, ZeRO-2: deepspeed" in said)


def test_prep_speed_gives_rates_and_the_hours_they_imply(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = smoke(monkeypatch, tmp_path, "prep_speed")
    for metric in ("passages_tokenised_per_second", "passages_encoded_per_second"):
        assert values(rows, metric).keys() == {"tiny, bfloat16", "tiny, float32"}
    (rate,) = values(rows, "queries_per_second").values()
    hours = values(rows, "hours_for_ms_marco")["random, 16 numbers"]
    assert hours == pytest.approx(502_939 / rate * 8_841_823 / 3000 / 3600)


def test_agree_compares_every_type_with_the_cpus_stored_orders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stored = str(tmp_path / "orders.npz")
    rows = smoke(monkeypatch, tmp_path, "agree", "--make", stored, "--orders", stored)
    same = values(rows, "same_ranking")
    assert len(same) == 12
    assert all(share == 1.0 for variant, share in same.items() if variant.startswith("float32"))


def test_a_spent_budget_leaves_the_rest_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from session import Session

    options = Namespace(smoke=True, budget=0.0, into=tmp_path / "results.csv", device="cpu")
    with Session(options, study="gpu_test") as session:
        assert list(session.within(["one", "two"])) == []
    assert "skipped: two: the budget of 0 s is spent" in capsys.readouterr().out
    assert [row.metric for row in read_results_csv(options.into)] == ["seconds"]
