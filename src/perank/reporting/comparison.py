"""Compare systems: evaluate each on every suite, test it against the baselines, and write the results.

Systems are loaded one at a time. Missing systems are listed with the reason; it is an error only if all are missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perank.errors import Absent, BadInput
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
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
    """Evaluations, and system -> reason for its absence."""

    baselines: Measured
    systems: Measured
    absent: Mapping[str, str]

    def save(self, output: Path, compare: Iterable[str], labels: Mapping[str, Any]) -> list[ResultRow]:
        """Write every evaluation, results.csv and absent.json, and return the rows.

        All systems are tested against the baselines and those in `compare`. Raises `BadInput` for an unknown name.
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


def compared(systems: Sequence[System], suites: Sequence[Suite], baselines: Measured) -> Comparison:
    """Evaluate every system on its suites. Raises `Absent` if all systems are."""
    found: Measured = {suite.name: [] for suite in suites}
    absent: dict[str, str] = {}
    for system in systems:
        try:
            measured = _measured(system, suites)
        except Absent as error:
            if len(systems) == 1:
                raise
            log.warning("%s is absent: %s", system.name, error)
            absent[system.name] = str(error)
        else:
            for evaluation in measured:
                found[evaluation.suite].append(evaluation)
    if systems and len(absent) == len(systems):
        raise Absent(f"none of {', '.join(absent)} is available", remedy="see the warnings above")
    return Comparison(baselines, found, absent)


def _measured(system: System, suites: Sequence[Suite]) -> list[Evaluation]:
    chosen = [suite for suite in suites if system.suites is None or suite.name in system.suites]
    if not chosen:
        remedy = f"evaluate on {', '.join(system.suites or ())}"
        raise Absent(f"{system.name} is a run for other suites", remedy=remedy)
    measure = system.prepare()
    return [measure(suite) for suite in chosen]
