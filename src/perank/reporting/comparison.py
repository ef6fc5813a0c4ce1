"""Compare systems: evaluate each on every suite, test it against the baselines, and write the results.

Systems are loaded one at a time. Missing systems are listed with the reason; it is an error only if all are missing.
A system that fails is listed like a missing one, and its error is raised once everything else has been written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perank.errors import Absent, BadInput
from perank.evaluation import Evaluation, Suite, slug
from perank.files import write_json
from perank.reporting.rows import ResultRow, rows_from, write_results_csv

log = logging.getLogger(__name__)

Measure = Callable[[Suite], Evaluation]
Measured = dict[str, list[Evaluation]]
"""Suite name -> evaluations."""


@dataclass(frozen=True, slots=True)
class System:
    """`prepare` loads the system and returns its evaluation on a suite; `suites` restricts it (None: all)."""

    name: str
    prepare: Callable[[], Measure]
    suites: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Evaluations, system -> reason for its absence, and the errors of systems that failed."""

    baselines: Measured
    systems: Measured
    absent: Mapping[str, str]
    errors: Sequence[Exception] = ()

    def save(self, output: Path, compare: Iterable[str], labels: Mapping[str, Any]) -> list[ResultRow]:
        """Write every evaluation, results.csv and absent.json, and return the rows.

        All systems are tested against the baselines and those in `compare`. Raises `BadInput` for an unknown name, and
        the error of a system that failed, after writing the results of the others.
        """
        rows: list[ResultRow] = []
        for suite, baselines in self.baselines.items():
            everything = [*baselines, *self.systems[suite]]
            against = [*baselines, *self._named(everything, compare)]
            for evaluation in everything:
                evaluation.save(output, against=against)
                rows += rows_from(evaluation, against=against, **labels)
        write_json(output / "absent.json", self.absent)
        write_results_csv(output / "results.csv", rows)
        if self.errors:
            raise self.errors[0]
        return rows

    def of(self, suite: Suite) -> list[Evaluation]:
        """All evaluations of a suite, baselines first."""
        return [*self.baselines[suite.name], *self.systems[suite.name]]

    def pairs(self, suites: Iterable[Suite]) -> Iterator[tuple[Suite, Evaluation]]:
        """Every system's evaluations with their suites."""
        return ((suite, evaluation) for suite in suites for evaluation in self.systems[suite.name])

    def _named(self, evaluations: Sequence[Evaluation], wanted: Iterable[str]) -> Iterator[Evaluation]:
        known = {evaluation.system: evaluation for evaluation in evaluations}
        for name in wanted:
            if name in known:
                yield known[name]
            elif name not in self.absent:
                remedy = f"choose among {', '.join([*known, *self.absent])}"
                raise BadInput("no such system to compare with", remedy=remedy, id=str(name))


def check_names(
    systems: Iterable[str], compare: Iterable[str], suites: Sequence[Suite], baselines: Sequence[str]
) -> None:
    """Raise `BadInput` for an unknown name in `compare`, and for two systems that would write the same files."""
    names = [*baselines, *systems]
    for name in compare:
        if name not in names:
            remedy = f"choose among {', '.join(dict.fromkeys(names))}"
            raise BadInput("no such system to compare with", remedy=remedy, id=str(name))
    taken: dict[str, str] = {}
    for key in (f"{suite.name}/{name}" for suite in suites for name in dict.fromkeys(names)):
        if (other := taken.setdefault(slug(key.replace("/", ".", 1)), key)) != key:
            raise BadInput(f"{other!r} and {key!r} would write the same files", remedy="rename one", id=key)


def compared(
    systems: Sequence[System],
    suites: Sequence[Suite],
    baselines: Measured,
    keep: Callable[[Evaluation], None] = lambda evaluation: None,
) -> Comparison:
    """Evaluate every system on its suites; `keep` receives each evaluation at once.

    Raises `Absent` if all systems are, and the first error if none could be evaluated.
    """
    found: Measured = {suite.name: [] for suite in suites}
    absent: dict[str, str] = {}
    errors: list[Exception] = []
    for system in systems:
        try:
            for evaluation in _measured(system, suites):
                found[evaluation.suite].append(evaluation)
                keep(evaluation)
        except Absent as error:
            if len(systems) == 1:
                raise
            log.warning("%s is absent: %s", system.name, error)
            absent[system.name] = str(error)
        except Exception as error:
            log.warning("%s failed: %s", system.name, error)
            absent[system.name] = f"failed: {error}"
            errors.append(error)
    if errors and not any(found.values()):
        raise errors[0]
    if systems and not errors and len(absent) == len(systems):
        raise Absent(f"none of {', '.join(absent)} is available", remedy="see the warnings above")
    return Comparison(baselines, found, absent, errors)


def _measured(system: System, suites: Sequence[Suite]) -> Iterator[Evaluation]:
    chosen = [suite for suite in suites if system.suites is None or suite.name in system.suites]
    if not chosen:
        remedy = f"evaluate on {', '.join(system.suites or ())}"
        raise Absent(f"{system.name} is a run for other suites", remedy=remedy)
    measure = system.prepare()
    yield from map(measure, chosen)
