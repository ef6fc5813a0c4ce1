"""What other tools read of an evaluation: judgements as a qrels file, and headers that say how its runs were made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perank.evaluation import Evaluation, Suite, device_name, slug
from perank.evaluation.ir_metadata import annotate, described, joined
from perank.sources import write_qrels


def export(folder: Path, suite: Suite, evaluations: Sequence[Evaluation], more: Mapping[str, Any]) -> None:
    """Write <suite>.qrels, and add an ir-metadata header to the written run of each evaluation.

    `more` are fields of the header, such as `actor`, which replace those that are known.
    """
    write_qrels(folder / f"{slug(suite.name)}.qrels", suite.qrels())
    for evaluation in evaluations:
        known = described(slug(evaluation.system), _about(suite, evaluation, evaluations), device_name())
        annotate(folder / f"{slug(f'{suite.name}.{evaluation.system}')}.trec", joined(known, more))


def _about(suite: Suite, evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    others = [slug(other.system) for other in evaluations if other is not evaluation]
    first = slug(suite.first_stage_name)
    stages: list[dict[str, Any]] = [{"name": first, "depth": suite.depth}]
    if slug(evaluation.system) != first:
        stages.append({"name": slug(evaluation.system), "reranks": first})
    return {
        "research goal": {
            "evaluation": {
                "reported measures": list(suite.metrics),
                "baseline": others,
                "significance test": [{"name": "paired two-sided t-test"}],
            }
        },
        "method": {"retrieval": stages},
        "data": {"test collection": {"name": suite.collection.name, "qrels": f"{slug(suite.name)}.qrels"}},
    }
