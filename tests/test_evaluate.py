"""perank.evaluate on tiny models: saved models and run files beside the first stage and the encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from perank import Reranker
from perank.evaluate import evaluate, main
from perank.evaluation.ir_metadata import read_header
from perank.reporting.report import read_report
from perank.reporting.rows import read_results_csv
from perank.sources.beir import read_beir_qrels
from perank.sources.trec import read_qrels, read_run, write_run
from perank.train import train
from support import tiny, toy

pytestmark = toy.QUIET


@pytest.fixture(scope="module")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    train(toy.composed(world, output, "rank", "data.rows=16"))
    return output


def settings(world: Path, *more: str) -> list[str]:
    return [o for o in toy.overrides(world) if o.startswith(("suite", "encoder", "window"))] + ["dtype=float32", *more]


def evaluated(world: Path, output: Path, *more: str) -> dict[str, dict[str, float]]:
    """System -> metric -> value."""
    from hydra import compose, initialize_config_dir
    from omegaconf import open_dict

    from perank.files import CONF_DIR

    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("evaluate", overrides=settings(world, *more))
    with open_dict(config):
        config.paths.output = str(output)
    found: dict[str, dict[str, float]] = {}
    for row in evaluate(config):
        found.setdefault(row.system, {})[row.metric] = row.value
    return found


def reciprocal_rank(run: dict[str, dict[str, float]], world: Path) -> float:
    """MRR@10 over the judged queries by a plain loop."""
    qrels = read_beir_qrels(world / "collection" / "qrels" / "test.tsv")
    total = 0.0
    for query, grades in qrels.items():
        ranked = sorted(run.get(query, {}), key=lambda id: (run[query][id], id), reverse=True)[:10]
        total += next((1 / rank for rank, id in enumerate(ranked, start=1) if grades.get(id, 0) > 0), 0.0)
    return total / len(qrels)


def test_a_saved_model_is_measured_as_its_training_measured_it(world: Path, trained: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path, f"model={trained}/model")
    expected = json.loads((trained / "metrics.json").read_text())["beir/PE-Rank"]["means"]
    assert {metric: found["PE-Rank"][metric] for metric in expected} == pytest.approx(expected, abs=0)
    assert list(found) == ["Bm25", "encoder", "fusion", "PE-Rank"]
    assert read_run(tmp_path / "beir.PE-Rank.trec") == read_run(trained / "beir.PE-Rank.trec")


def test_one_forward_per_window_is_a_row_next_to_algorithm_1(world: Path, trained: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path, f"model={trained}/model", "ranker=single_pass")
    assert list(found) == ["Bm25", "encoder", "fusion", "PE-Rank-one-pass", "PE-Rank"]
    assert found["PE-Rank-one-pass"]["forwards_per_query"] < found["PE-Rank"]["forwards_per_query"]


def test_means_are_those_of_a_plain_loop_over_the_written_runs(world: Path, trained: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path, f"model={trained}/model")
    for system in ("Bm25", "encoder", "fusion", "PE-Rank"):
        run = read_run(tmp_path / f"beir.{system}.trec")
        assert found[system]["mrr@10"] == pytest.approx(reciprocal_rank(run, world))


def test_runs_leave_with_headers_and_judgements(world: Path, trained: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path, f"model={trained}/model", "ir_metadata={actor:{team:ours}}")
    header = read_header(tmp_path / "beir.PE-Rank.trec")
    assert header["tag"] == "PE-Rank" and header["actor"] == {"team": "ours"}
    assert header["method"]["retrieval"] == [{"name": "Bm25", "depth": 7}, {"name": "PE-Rank", "reranks": "Bm25"}]
    assert header["research goal"]["evaluation"]["baseline"] == ["Bm25", "encoder", "fusion"]
    assert read_header(tmp_path / "beir.Bm25.trec")["method"]["retrieval"] == [{"name": "Bm25", "depth": 7}]
    assert read_qrels(tmp_path / "beir.qrels") == read_beir_qrels(world / "collection" / "qrels" / "test.tsv")
    assert read_run(tmp_path / "beir.PE-Rank.trec") == read_run(trained / "beir.PE-Rank.trec")
    assert found["PE-Rank"]["mrr@10"] == pytest.approx(reciprocal_rank(read_run(tmp_path / "beir.PE-Rank.trec"), world))


def test_files_and_table_say_the_same(world: Path, trained: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path, f"model={trained}/model")
    rows = read_results_csv(tmp_path / "results.csv")
    assert {(r.system, r.metric): r.value for r in rows} == {
        (system, metric): value for system, values in found.items() for metric, value in values.items()
    }
    entries = json.loads((tmp_path / "metrics.json").read_text())
    assert set(entries) == {"beir/Bm25", "beir/encoder", "beir/fusion", "beir/PE-Rank"}
    assert entries["beir/PE-Rank"]["p_values"].keys() == {"Bm25", "encoder", "fusion"}


def test_run_files_are_measured_by_pattern_and_by_list(world: Path, tmp_path: Path) -> None:
    best = {f"q{i}": {f"p{i}": 2.0, "p0": 1.0} for i in range(12, 17)}
    worst = {f"q{i}": {"p0": 2.0, f"p{i}": 1.0} for i in range(12, 17)}
    for name, run in {"best": best, "worst": worst}.items():
        write_run(tmp_path / f"{name}.trec", run, tag="x")
    for named in (f"run='{tmp_path}/*st.trec'", f"run=[{tmp_path}/best.trec,{tmp_path}/worst.trec]"):
        found = evaluated(world, tmp_path / "out", named, "encoder_alone=false")
        assert list(found) == ["Bm25", "best", "worst"]
        assert (found["best"]["mrr@10"], found["worst"]["mrr@10"]) == (1.0, 0.5)


def test_a_model_is_measured_with_its_own_encoder_whatever_the_config_names(
    world: Path, trained: Path, tmp_path: Path
) -> None:
    """Two encoders of the same width: the other one's vectors would fit, and give other rankings."""
    tiny.tiny_encoder(tmp_path / "other", seed=9)
    own = evaluated(world, tmp_path / "own", f"model={trained}/model")
    other = evaluated(world, tmp_path / "out", f"model={trained}/model", f"encoder.name={tmp_path}/other")
    assert other["PE-Rank"]["mrr@10"] == own["PE-Rank"]["mrr@10"]
    assert (tmp_path / "out" / "beir.PE-Rank.trec").read_bytes() == (
        tmp_path / "own" / "beir.PE-Rank.trec"
    ).read_bytes()
    assert (tmp_path / "out" / "beir.encoder.trec").read_bytes() == (
        tmp_path / "own" / "beir.encoder.trec"
    ).read_bytes()


def test_a_calibration_is_saved_with_the_model_and_changes_scores_alone(
    world: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    model = f"model={tmp_path}/model"
    before = evaluated(world, tmp_path / "before", model, "calibrate=true")
    after = evaluated(world, tmp_path / "after", model)
    assert before["PE-Rank"]["ndcg@10"] == after["PE-Rank"]["ndcg@10"]
    ranking = Reranker.from_pretrained(tmp_path / "model").rank("otter", ["a sea otter", "the rain falls"])
    assert ranking.calibrated and 1 >= ranking.scores[0] >= ranking.scores[1] >= 0
    errors = json.loads((tmp_path / "after" / "calibration_error.json").read_text())
    assert errors["beir/PE-Rank, calibrated"]["error"] < errors["beir/PE-Rank, uncalibrated: 1 / rank"]["error"]
    assert (tmp_path / "after" / "beir.PE-Rank.reliability.png").is_file()
    systems = read_report(tmp_path / "after" / "report.html")["suites"][0]["systems"]
    assert [(system["name"], system["calibrated"]) for system in systems][-1] == ("PE-Rank", True)
    assert read_report(trained / "report.html")["suites"][0]["systems"][-1]["name"] == "PE-Rank"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model=none/none"], "none/none"),
        (["run=none.trec"], "none.trec"),
        (["modell=x"], "modell"),
        (["batch_size=many"], "batch_size"),
        (["suite.beir.depth=0"], "depth"),
        (["report.ranks=0"], "report.ranks"),
        (["calibrate=true"], "not a PE-Rank model"),
        (["calibrate=true", "model=box"], "has no place"),
        (["calibration=none.json", "model=box"], "none.json"),
    ],
    ids=str,
)
def test_bad_settings_end_with_exit_code_2_and_leave_no_numbers(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    assert toy.command(main, *settings(world), *arguments, f"hydra.run.dir={tmp_path}/run") == 2
    error = capfd.readouterr().err
    assert said in error[error.index("perank: ") :]
    assert not list(tmp_path.rglob("metrics.json"))


@pytest.mark.parametrize(
    ("gpu", "named", "device"), [(True, [], "cuda"), (False, [], "cpu"), (True, ["device=cpu"], "cpu")]
)
def test_a_model_ranks_on_the_gpu_if_there_is_one_unless_a_device_is_named(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, named: list[str], device: str
) -> None:
    class LoadedError(Exception):
        pass

    def loaded(name: str, *, device: str, dtype: str) -> None:
        raise LoadedError(device)

    monkeypatch.setattr("perank.app.saved_model.from_pretrained", loaded)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    with pytest.raises(LoadedError, match=f"^{device}$"):
        evaluated(world, tmp_path, "model=some/folder", *named)


def test_the_command_prints_a_table_and_ends_with_0(
    world: Path, trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments: list[Any] = [*settings(world), f"model={trained}/model", f"hydra.run.dir={tmp_path}/run"]
    assert toy.command(main, *arguments) == 0
    printed = capfd.readouterr().out
    assert all(system in printed for system in ("Bm25", "encoder", "fusion", "PE-Rank"))


def test_a_checkpoint_in_the_authors_layout_is_measured_by_its_folder(world: Path, tmp_path: Path) -> None:
    from perank.model.prompts import PromptBuilder
    from perank.saving.authors_checkpoint import write_authors_checkpoint

    encoder = tiny.tiny_encoder(tmp_path / "encoder", positions=512)
    prompts = PromptBuilder(tiny.tiny_tokenizer(), "reference")
    write_authors_checkpoint(tmp_path / "checkpoint", tiny.tiny_model(dtype=torch.float32), prompts, encoder)
    found = evaluated(world, tmp_path / "out", f"model={tmp_path}/checkpoint")
    assert found.keys() == {"Bm25", "encoder", "fusion", "PE-Rank"}
    assert 0 < found["PE-Rank"]["ndcg@10"] <= 1
