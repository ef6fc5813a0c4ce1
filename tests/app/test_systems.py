"""Systems side by side: rankers of conf/ranker, published runs, saved folders, and who is absent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from baselines.test_pointwise import save_bert
from baselines.test_splade import save_masked_lm
from perank.app.systems import named
from perank.evaluate import evaluate, main
from perank.files import CONF_DIR
from perank.model.llm import LLMSettings
from perank.model.pe_rank import TextRanker
from perank.reporting.rows import read_results_csv
from perank.saving.saved_text_ranker import save_text_ranker
from perank.sources.trec import write_run
from support import small_llms, toy
from test_evaluate import evaluated, settings

pytestmark = toy.QUIET
GPT35 = ["+ranker.RankGPT-35._target_=perank.app.systems.PublishedRun", "+ranker.RankGPT-35.run=no"]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"), 1)


def test_several_rankers_stand_in_one_table_and_who_is_absent_says_why(
    world: Path, cross_encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "best.trec", {f"q{i}": {f"p{i}": 2.0, "p0": 1.0} for i in range(12, 17)}, tag="x")
    arguments = [
        "ranker=[mono,cross_encoder,rank_llm]",
        f"ranker.MiniLM-CE.name={cross_encoder}",
        "ranker.MiniLM-CE.max_length=64",
        "+ranker.RankGPT-35._target_=perank.app.systems.PublishedRun",
        f"+ranker.RankGPT-35.run={tmp_path}/best.trec",
        "+ranker.RankGPT-35.suites=[beir]",
        "download=false",
        "compare=[RankGPT-35]",
    ]
    assert toy.command(main, *settings(world, f"hydra.run.dir={tmp_path}/out", *arguments)) == 0
    rows = read_results_csv(tmp_path / "out" / "results.csv")
    assert list(dict.fromkeys(row.system for row in rows)) == ["Bm25", "encoder", "fusion", "MiniLM-CE", "RankGPT-35"]
    assert {row.baseline for row in rows if row.system == "MiniLM-CE"} == {
        "",
        "Bm25",
        "encoder",
        "fusion",
        "RankGPT-35",
    }
    absent = json.loads((tmp_path / "out" / "absent.json").read_text())
    assert list(absent) == ["monoBERT", "monoT5", "RankVicuna", "RankZephyr", "FIRST"]
    assert "its weights are not on this machine" in absent["monoT5"]
    printed = capfd.readouterr().out
    assert "RankVicuna" in printed
    assert "absent" in printed


def test_weights_that_cannot_be_read_make_a_system_absent_too(world: Path, cross_encoder: Path, tmp_path: Path) -> None:
    found = evaluated(
        world,
        tmp_path,
        "ranker=[cross_encoder,mono]",
        f"ranker.MiniLM-CE.name={cross_encoder}",
        "ranker.MiniLM-CE.max_length=64",
        f"ranker.monoBERT.name={world}/collection",
        "ranker.monoT5=null",
    )
    assert list(found) == ["Bm25", "encoder", "fusion", "MiniLM-CE"]
    assert "can't be loaded" in json.loads((tmp_path / "absent.json").read_text())["monoBERT"]


def test_fusions_share_the_encoders_vectors_and_note_their_weights(world: Path, tmp_path: Path) -> None:
    train = [
        "ranker.fusion-fitted.judged.collection._target_=perank.sources.beir.BeirCollection",
        f"+ranker.fusion-fitted.judged.collection.folder={world}/collection",
        "ranker.fusion-fitted.features=[cosine,log_rank]",
    ]
    found = evaluated(world, tmp_path, "ranker=[fusion,fusion_fitted]", "ranker.fusion.log_rank=0.0", *train)
    assert list(found) == ["Bm25", "encoder", "fusion", "RRF", "fusion-fitted"]
    entries = json.loads((tmp_path / "metrics.json").read_text())
    assert entries["beir/fusion"]["means"] == entries["beir/encoder"]["means"]  # the rank has no weight
    assert re.fullmatch(r"-?[\d.e-]+ cosine \+ -?[\d.e-]+ log_rank", entries["beir/fusion-fitted"]["note"])
    assert entries["beir/RRF"]["p_values"].keys() == {"Bm25", "encoder", "fusion"}


def test_a_sparse_ranker_and_its_fusion_stand_next_to_the_encoder(world: Path, tmp_path: Path) -> None:
    folder = save_masked_lm(tmp_path / "splade")
    settings = [f"ranker.splade.name={folder}", "ranker.splade.max_length=32"]
    found = evaluated(world, tmp_path / "out", "ranker=splade", *settings)
    assert list(found) == ["Bm25", "encoder", "fusion", "splade", "splade-encoder"]
    assert found["splade"]["forwards_per_query"] == found["splade-encoder"]["forwards_per_query"] == 8  # 7 candidates


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ranker=mono", "ranker.monoT5=null", "download=false"], "its weights are not on this machine"),
        (["ranker=mono", "ranker.monoBERT.max_lenght=3"], "no such setting|Could not override"),
        (["+ranker.mine.name=x"], "the ranker has no _target_"),
        ([*GPT35, "+ranker.RankGPT-35.suites=[dl19]"], "RankGPT-35 is a run for other suites .evaluate on dl19"),
        (GPT35, "no such run file"),
        ([*GPT35, "+ranker.RankGPT-35.size=3"], "RankGPT-35.size"),
        (["compare=[nobody]"], "no such system to compare with"),
    ],
    ids=str,
)
def test_rankers_that_cannot_be_meant_end_with_exit_code_2(
    world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    overrides = settings(world, f"hydra.run.dir={tmp_path}", "encoder_alone=false", *arguments)
    assert toy.command(main, *overrides) == 2
    assert re.search(said, capfd.readouterr().err)


def test_a_text_ranker_is_measured_by_its_folder(world: Path, tmp_path: Path) -> None:
    prompts = small_llms.prompts(max_length=256)
    llm = small_llms.llm(4).float()
    llm.save_pretrained(tmp_path / "llm")
    small_llms.tokenizer().save_pretrained(tmp_path / "llm")
    model = TextRanker(llm)
    save_text_ranker(
        tmp_path / "model", model, llm=LLMSettings(name=str(tmp_path / "llm")), prompts=prompts, text="contents"
    )
    found = evaluated(world, tmp_path / "out", f"model={tmp_path}/model", "encoder_alone=false")
    assert list(found) == ["Bm25", "text listwise"]
    assert found["text listwise"]["tokens_generated"] > 0


def test_published_runs_on_dl19_have_their_published_figures(shared: Path, tmp_path: Path) -> None:
    overrides = ["+experiment=dl19", "~ranker.RankSmol", "encoder_alone=false", "compare=[RankVicuna]"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("evaluate", overrides=[*overrides, f"paths.shared={shared}", f"paths.output={tmp_path}"])
    rows = evaluate(config)
    values = {row.system: round(row.value, 4) for row in rows if row.metric == "ndcg@10"}
    assert values["bm25"] == 0.5058
    assert values["RankVicuna"] == 0.6682
    assert values["RankGPT-35"] == 0.6799
    tests = {row.system: row.p_value for row in rows if row.metric == "ndcg@10" and row.baseline == "bm25"}
    assert max(p for p in tests.values() if p is not None) < 0.001


def test_run_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "run.txt" for folder in ("bm25/a", "bm25/b", "dense/a")]
    assert list(named(paths)) == ["bm25/a/run", "bm25/b/run", "dense/a/run"]
    assert list(named([*paths[:2], paths[1]])) == ["a/run", "b/run"]
    assert list(named([tmp_path / "x.trec", tmp_path / "y.v2.trec"])) == ["x", "y.v2"]


def test_runs_of_one_name_are_measured_side_by_side(world: Path, tmp_path: Path) -> None:
    for name, first in {"best": 2.0, "worst": 0.5}.items():
        run = {f"q{i}": {f"p{i}": first, "p0": 1.0} for i in range(12, 17)}
        write_run(tmp_path / name / "run.trec", run, tag="x")
    found = evaluated(world, tmp_path / "out", f"run='{tmp_path}/*/run.trec'", "encoder_alone=false")
    assert (found["best/run"]["mrr@10"], found["worst/run"]["mrr@10"]) == (1.0, 0.5)
    assert (tmp_path / "out" / "beir.best_run.trec").is_file()
