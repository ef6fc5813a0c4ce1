"""report.html: an evaluation as one page without network access, from `report.html.j2` and the data embedded in it.

`read_report` gets the data back from a page, so that `merged` pages of several runs make one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perank.errors import BadInput, check_least
from perank.evaluation import Evaluation, Suite
from perank.files import atomic_write

REPORT = "report.html"
_TEMPLATE = Path(__file__).with_name("report.html.j2")
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_TIE = 1e-12  # differences of a metric below it come from rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """`texts`: show queries and the first `words` words of passages (false: ids only, where terms forbid texts).

    Candidates are shown for the `queries` whose metric changes most, `ranks` before and after; all queries are listed.
    """

    texts: bool = True
    words: int = 20
    ranks: int = 20
    queries: int = 300

    def __post_init__(self) -> None:
        check_least("report", 0, words=self.words, queries=self.queries)
        check_least("report", 1, ranks=self.ranks)


Measured = Iterable[tuple[Suite, Sequence[Evaluation]]]
"""Suites with their evaluations, of which the first is that of the first stage."""


def save_report(folder: Path, measured: Measured, settings: ReportSettings | None, config: str, title: str) -> None:
    """Write report.html to `folder`, or nothing without settings."""
    if settings is not None:
        write_report(folder / REPORT, report_data(measured, settings, config, title))


def report_data(
    measured: Measured, settings: ReportSettings, config: str = "", title: str = "Evaluation"
) -> dict[str, Any]:
    """The page's data as JSON values."""
    suites = [_suite(suite, evaluations, settings) for suite, evaluations in measured]
    return {"title": title, "config": [{"name": title, "text": config}], "suites": suites}


def write_report(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write the page, atomically."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    with atomic_write(path) as file:
        file.write(page.render(title=data["title"], data=safe))


def read_report(path: str | Path) -> dict[str, Any]:
    """The data of a page that `write_report` wrote. Raises `BadInput` for another file."""
    found = _DATA.search(Path(path).read_text(encoding="utf-8"))
    if found is None:
        raise BadInput("not a report of perank", remedy="evaluate again", path=path)
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def merged(reports: Mapping[str, Mapping[str, Any]], title: str) -> dict[str, Any]:
    """Join the pages' data (run's name -> data): systems of the same suite and queries stand next to each other.

    A system that several runs have with different scores gets the run's name added.
    """
    suites: dict[str, dict[str, Any]] = {}
    for run, data in reports.items():
        for suite in data["suites"]:
            ids = [query["id"] for query in suite["queries"]]
            name = f"{suite['name']} ({run})" if _differ(suites.get(suite["name"]), ids) else suite["name"]
            if name in suites:
                _join(suites[name], suite, run)
            else:
                suites[name] = json.loads(json.dumps(suite)) | {"name": name}
    config = [{**part, "name": run} for run, data in reports.items() for part in data["config"]]
    return {"title": title, "config": config, "suites": list(suites.values())}


def _differ(suite: Mapping[str, Any] | None, ids: Sequence[str]) -> bool:
    return suite is not None and [query["id"] for query in suite["queries"]] != ids


def _join(into: dict[str, Any], suite: Mapping[str, Any], run: str) -> None:
    for number, system in enumerate(suite["systems"]):
        same = next((one for one in into["systems"] if one["name"] == system["name"]), None)
        if same is not None and same["values"] == system["values"]:
            continue
        name = system["name"] if same is None else f"{system['name']} ({run})"
        into["systems"].append({**system, "name": name})
        for query, other in zip(into["queries"], suite["queries"], strict=True):
            if query["ranked"] and other["ranked"]:
                query["ranked"].append(other["ranked"][number])
            else:  # one of the runs shows no candidates of this query
                query["ranked"] = []
            query["passages"] = other["passages"] | query["passages"]


def _suite(suite: Suite, evaluations: Sequence[Evaluation], settings: ReportSettings) -> dict[str, Any]:
    metric = "ndcg@10" if "ndcg@10" in suite.metrics else suite.metrics[0]
    first = evaluations[0].per_query[metric]
    changes = {
        id: max(abs(one.per_query[metric][id] - first[id]) for one in evaluations) for id in first
    }  # the largest of any system
    shown = set(sorted(changes, key=lambda id: -changes[id])[: settings.queries])
    return {
        "name": suite.name,
        "metric": metric,
        "depth": suite.depth,
        "note": evaluations[0].note,
        "shown": len(shown),
        "systems": [_system(one, evaluations, metric) for one in evaluations],
        "queries": [_query(suite, id, evaluations if id in shown else (), settings) for id in first],
    }


def _system(one: Evaluation, evaluations: Sequence[Evaluation], metric: str) -> dict[str, Any]:
    def against(other: Evaluation) -> dict[str, Any]:
        differences = [one.per_query[metric][id] - value for id, value in other.per_query[metric].items()]
        win, loss = sum(d > _TIE for d in differences), sum(d < -_TIE for d in differences)
        return {"win": win, "tie": len(differences) - win - loss, "loss": loss, "p": one.p_value(other, metric)}

    intervals = one.intervals
    return {
        "name": one.system,
        "means": {name: {"mean": mean, "interval": intervals[name]} for name, mean in one.means.items()},
        "against": {other.system: against(other) for other in evaluations if other is not one},
        "costs": one.costs,
        "calibrated": bool(one.shown) and all(scored.calibrated for scored in one.shown.values()),
        "values": [round(value, 6) for value in one.per_query[metric].values()],
    }


def _query(suite: Suite, id: str, evaluations: Sequence[Evaluation], settings: ReportSettings) -> dict[str, Any]:
    text = suite.collection.queries[id].text if settings.texts and id in suite.collection.queries else ""
    ranked = [[(passage, round(score, 4)) for passage, score in one.ranked(id, settings.ranks)] for one in evaluations]
    grades = suite.collection.qrels[id]
    ids = dict.fromkeys(passage for ranks in ranked for passage, _ in ranks)
    passages = {passage: [grades.get(passage), _words(suite, passage, settings)] for passage in ids}
    return {"id": id, "text": text, "passages": passages, "ranked": ranked}


def _words(suite: Suite, passage: str, settings: ReportSettings) -> str:
    if not settings.texts or passage not in suite.collection.passages:
        return ""
    words = suite.collection.passages[passage].contents.split()
    return " ".join(words[: settings.words]) + (" ..." if len(words) > settings.words else "")
