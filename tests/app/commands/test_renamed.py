"""What earlier versions wrote is refused with what to write now, on command lines and in the configs of their runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from perank.app.commands.renamed import RENAMED, check_overrides, run_config
from perank.app.settings import import_target
from perank.errors import BadInput
from perank.files import CONF_DIR

OVERRIDES = re.compile(r"[+~]?[\w./-]+=[^ <>,]+(?: [+~]?[\w./-]+=[^ <>,]+)*")
WHOLE = {old: new for old, new in RENAMED.items() if OVERRIDES.fullmatch(new)}

# The choices of version 0.1.0's conf/, and the targets named there.
CHOICES = {
    "alignment": "embedded first none paper",
    "backbone": (
        "embedded_align embedded_listwise embedded_rank mistral mistral_lora mistral_qlora paper_align "
        "paper_listwise paper_rank smollm2 smollm2_first6 smollm2_full"
    ),
    "callbacks": "default",
    "collection": (
        "beir msmarco nfcorpus paper_align paper_listwise paper_rank pydocs pydocs_sentences texts wikipedia"
    ),
    "data": "align_embedded align_paper listwise_embedded listwise_paper rank_embedded rank_paper",
    "decoding": "constrained single_pass speculative",
    "encoder": "bge jina minilm wordllama",
    "experiment": "align box dl19 rank rankmistral table1 table2 table3 table4 table5 train_table1 train_table2",
    "first_stage": "bm25 dense",
    "gpu": "a100_80gb h100_80gb rtx4090_24gb",
    "hydra/launcher": "slurm workers",
    "hydra": "default",
    "logger": "csv wandb",
    "loss": "distil embeddings paper reference",
    "optimizer": "align_embedded align_paper listwise_embedded listwise_paper rank_embedded rank_paper",
    "paths": "default",
    "preparation": "from_authors msmarco ranking summaries to_authors wikipedia",
    "projector": "default isometry queries tokens",
    "prompt": "compact listwise listwise_compact paper reference",
    "ranker": (
        "cross_encoder first listwise monobert monot5 pe_rank published_gpt35 published_rankmistral100 "
        "published_rankvicuna rankgpt rankgpt35 rankgpt4 rankmistral rankmistral_s rankmistral_t ranksmol "
        "rankvicuna rankzephyr"
    ),
    "scale": "embedded paper",
    "size": "embeddings_embedded embeddings_paper none texts_embedded texts_paper",
    "stage": "align listwise rank",
    "study": "table3_efficiency table6_windows",
    "suite": (
        "adi antique500 beir beir_covid beir_dbpedia beir_news beir_nfcorpus beir_robust beir_scifact "
        "beir_signal beir_touche cisi cranfield dl19 dl19_dense dl21 med nfcorpus nfcorpus_dense noveleval "
        "pydocs table1_embedded table1_paper table2_embedded table2_paper table4_embedded table4_paper "
        "table5_embedded table5_paper trec_dl trec_dl_dense"
    ),
    "teacher": "cross_encoder encoder fused ranker run",
    "trainer": "cpu ddp deepspeed_zero2 fsdp gpu",
    "variant": "none table4_a table4_b table4_c table4_c_seed1 table4_c_seed2 table4_d table4_e",
    "window": "w100 w20s10 w40s20",
}
TARGETS = """
    baselines.loading.cross_encoder baselines.loading.first_token baselines.loading.listwise baselines.loading.monot5
    baselines.loading.pe_rank baselines.loading.rankgpt baselines.loading.trained_listwise evaluation.suites.Suite
    model.encoder.Encoder model.llm.LLM model.llm.Lora model.losses.RankLoss prepare.from_authors prepare.ranking
    prepare.summaries prepare.to_authors prepare.wikipedia retrieval.bm25.Bm25 retrieval.dense.Dense
    sources.beir.BeirCollection sources.folder.TextFolder sources.irds.IrdsCollection sources.pydocs.PyDocs
    sources.sentences.WithSentences sources.trec.TrecCollection stages.align.AlignModule
    stages.checkpoints.AtomicCheckpointIO stages.listwise.ListwiseModule stages.optimizer.AdamW stages.rank.RankModule
    stages.sharded.ShardedStrategy
"""
NOW_VALUES = {"decoding", "gpu", "study", "variant"}  # groups of 0.1.0 whose choices are values of a setting now


@pytest.fixture(scope="module", autouse=True)
def hydra_at_conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("window=w40s20", "write window.window=40 window.step=20"),
        ("+projector=isometry", "write projector.init=isometry"),
        ("loss=embeddings,distil", "'loss=distil': was renamed or removed (write loss=embeddings loss.distil=1.0)"),
        ("ranker=[mono,published_gpt35]", "+experiment=dl19"),
        ("decoding.name=constrained", "write decoding=constrained"),
        ("hydra/launcher=workers", "hydra/launcher=joblib"),
        ("stage._target_=perank.stages.rank.RankModule", "perank.training"),
    ],
)
def test_an_old_override_is_refused_with_the_new_one(override: str, said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        check_overrides(["-m", "seed=1", override])


def test_todays_overrides_pass() -> None:
    check_overrides(["-m", "--cfg", "job", "+experiment=rank", "seed=0,1", "window.window=5", "decoding=constrained"])
    check_overrides(["ranker=[mono,rank_llm]", "run='x=y/*.txt'", "~optimizer.lr", "loss=embeddings,paper"])


def test_no_choice_that_is_there_counts_as_gone() -> None:
    for file in CONF_DIR.glob("*/**/*.yaml"):
        check_overrides([f"{file.parent.relative_to(CONF_DIR)}={file.stem}"])


@pytest.mark.parametrize("group", CHOICES)
def test_every_choice_of_version_0_1_0_is_there_or_refused_with_what_to_write(group: str) -> None:
    for choice in CHOICES[group].split():
        if group not in NOW_VALUES and not (CONF_DIR / group / f"{choice}.yaml").is_file():
            with pytest.raises(BadInput, match="write"):
                check_overrides([f"{group}={choice}"])


@pytest.mark.parametrize("target", TARGETS.split())
def test_every_target_of_version_0_1_0_is_there_or_refused_with_what_to_write(target: str) -> None:
    try:
        check_overrides([f"+x._target_=perank.{target}"])
    except BadInput:
        return
    import_target(f"perank.{target}", "x")


@pytest.mark.parametrize("old", WHOLE)
def test_what_is_to_be_written_composes(old: str) -> None:
    new = WHOLE[old].split()
    check_overrides(new)
    experiment = ["+experiment=rankmistral"] if "prompt=listwise" in new else []
    command = "evaluate" if any(word.startswith("ranker") for word in new) else "train"
    compose(command, overrides=[*experiment, *new], return_hydra_config=True)


@pytest.mark.parametrize("old", [old for old in RENAMED if "_target_=" in old and not old.endswith(".*")])
def test_targets_have_gone_where_the_table_says(old: str) -> None:
    import_target(RENAMED[old], "x")
    with pytest.raises(BadInput):
        import_target(old.partition("=")[2], "x")


def test_the_config_of_an_earlier_run_is_refused_with_everything_that_was_renamed(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    content = {
        "paths": {"output": "x", "data": "data"},
        "encoder": {"_target_": "perank.model.encoder.Encoder", "name": "stage=x"},
        "decoding": {"name": "speculative"},
        "trainer": {"plugins": [{"_target_": "perank.stages.checkpoints.AtomicCheckpointIO"}]},
    }
    OmegaConf.save(OmegaConf.create(content), tmp_path / ".hydra" / "config.yaml")
    with pytest.raises(BadInput) as caught:
        run_config(tmp_path)
    for said in ("perank.model.encoders.encoder.Encoder", "decoding=constrained", "perank.training", "--cfg job"):
        assert said in str(caught.value)
    assert caught.value.path == tmp_path / ".hydra" / "config.yaml"


def test_todays_config_of_a_run_is_read(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(compose("train"), tmp_path / ".hydra" / "config.yaml")
    assert run_config(tmp_path).paths.output == str(tmp_path)
