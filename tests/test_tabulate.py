"""`perank.tabulate` over folders as sweeps leave them, also unfinished ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.reporting.rows import ResultRow, read_results_csv, write_results_csv
from perank.tabulate import main, tabulate
from support.small_suite import Keeping, Reversing, small_suite


def job(sweep: Path, number: int, *, seed: int, variant: str, done: bool = True) -> Path:
    """A job's folder: what Hydra keeps, and, if it is done, what the evaluation left."""
    folder = sweep / str(number)
    (folder / ".hydra").mkdir(parents=True)
    config = {
        "scale": "embedded",
        "seed": seed,
        "encoder": {"name": "tiny"},
        "backbone": {"name": "llm"},
        "prompt": {"version": "compact"},
        "window": {"window": 20, "step": 10},
        "labels": {"study": "table", "variant": variant},
    }
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    if done:
        suite = small_suite()
        evaluate_run(suite.first_stage_run, suite, system="bm25").save(folder)
        evaluate_ranker(Keeping(), suite, system="encoder", progress=False).save(folder)
        evaluate_ranker(Keeping(), suite, system="fusion", progress=False).save(folder)
        evaluate_ranker(Reversing(), suite, system="PE-Rank", progress=False).save(folder)
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    for number, (seed, variant) in enumerate([(0, "a"), (1, "a"), (0, "b")]):
        job(folder, number, seed=seed, variant=variant)
    return folder


def run(arguments: Sequence[str]) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["perank-tabulate", *arguments])
        main()
        raise SystemExit(0)
    return int(end.value.code or 0)


def test_a_sweep_becomes_tidy_rows_a_table_in_two_languages_and_a_figure(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(sweep)]) == 0
    rows = read_results_csv(sweep / "results.csv")
    model = [row for row in rows if row.system == "PE-Rank" and row.metric == "ndcg@10"]
    assert {(row.variant, row.seed) for row in model} == {("a", 0), ("a", 1), ("a", None), ("b", 0)}
    assert {row.window for row in model} == {20}
    plain = [row for row in rows if row.system in ("bm25", "encoder", "fusion")]
    assert {(row.variant, row.seed, row.window, row.backbone) for row in plain} == {("", None, None, "")}
    assert {(row.system, row.encoder) for row in plain} == {("bm25", ""), ("encoder", "tiny"), ("fusion", "tiny")}
    assert all(row.device and row.version and row.study == "table" for row in rows)
    text = (sweep / "table.md").read_text()
    assert text.count("| PE-Rank") == 2
    assert text in capsys.readouterr().out
    assert r"\begin{tabular}" in (sweep / "table.tex").read_text()
    assert (sweep / "results.png").stat().st_size > 1000


def test_a_half_finished_sweep_counts_and_says_what_is_missing(sweep: Path) -> None:
    job(sweep, 3, seed=1, variant="b", done=False)
    failed = job(sweep, 10, seed=2, variant="b", done=False)
    (failed / "failed.json").write_text('{"message": "no space left"}')
    tabulate([sweep])
    assert "2 jobs without results: 3 (not finished), 10 (no space left)" in (sweep / "table.md").read_text()


def test_a_study_gives_layout_and_the_papers_figures(sweep: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    (study / "layout.yaml").write_text(
        "title: Table 4\nreference: [PE-Rank, a]\nnames: {small: Small, encoder: MiniLM}\n"
    )
    row = ResultRow(system="PE-Rank", variant="a", first_stage="BM25", collection="Small", metric="ndcg@10", value=0.7)
    write_results_csv(study / "paper.csv", [row])
    grid = tabulate([sweep], study)
    assert grid.columns == [("Small", "ndcg@10")]
    text = (study / "table.md").read_text()
    assert "| PE-Rank a | BM25 |" in text
    assert "| 0.7000 |" in text
    assert "| MiniLM | BM25 |" in text
    assert {path.name for path in study.iterdir()} == {
        *("layout.yaml", "paper.csv", "results.csv", "results.png", "table.md", "table.tex")
    }


def test_written_results_can_be_tabulated_again(sweep: Path, tmp_path: Path) -> None:
    tabulate([sweep / "0"])
    again = tabulate([sweep / "0" / "results.csv"], output=tmp_path / "again")
    assert {line.shown for line in again.lines} == {("BM25",), ("encoder",), ("fusion",), ("PE-Rank", "a")}


@pytest.mark.parametrize(
    ("content", "said"), [("colour: red\n", "no such setting"), ("title: 3\n", "expected str"), (None, "no layout")]
)
def test_a_layout_that_cannot_be_used_is_refused(sweep: Path, tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "layout.yaml").write_text(content)
    with pytest.raises(BadInput, match=said):
        tabulate([sweep], tmp_path)


def test_paths_without_results_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(tmp_path)]) == 2
    assert "no runs in this folder" in capsys.readouterr().err
    job(tmp_path, 0, seed=0, variant="a", done=False)
    with pytest.raises(BadInput, match="none of 1 jobs has results"):
        tabulate([tmp_path])
