"""NDCG, MRR, MAP, recall and precision as trec_eval 9 computes them, with ranx; only this file imports it.

trec_eval's rules, which ranx alone doesn't follow: passages are sorted by fp32 score descending (its `float sim`), ties
by passage id descending; NDCG has linear gains over grades above 0; the other metrics count grades of at least
`binary_cutoff` (`-l`; 2 on TREC DL); with `complete`, every judged query counts, and one without results scores 0
(`-c`). A query without relevant judgements counts, with 0.

Unusual: ranx's Qrels and Run hash passage ids to floats, break ties arbitrarily, and compile slowly. Its metric
functions are called on sorted, padded arrays [Q, N, 2] of small integers instead; numba caches these on disk, so only
the first process compiles.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perank.errors import BadInput
from perank.files import cache_dir
from perank.records import Qrels, Run, rank_order

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)

# perank's name -> ranx's function, and whether the metric is defined without a cutoff.
_FAMILIES = {
    "ndcg": ("ndcg", True),
    "mrr": ("reciprocal_rank", True),
    "map": ("average_precision", True),
    "recall": ("recall", True),
    "precision": ("precision", False),
    "success": ("hit_rate", False),
}
_UNJUDGED, _PADDING = -1.0, -2.0


def parse_metric(name: str) -> tuple[str, int | None]:
    """`"ndcg@10"` -> `("ndcg", 10)`, `"map"` -> `("map", None)`. Raises `BadInput` for unknown names."""
    family, at, cutoff = name.partition("@")
    if family not in _FAMILIES:
        raise BadInput(f"unknown metric {name!r}", remedy=f"use one of {', '.join(_FAMILIES)}, as in ndcg@10")
    if at and not (cutoff.isascii() and cutoff.isdigit() and int(cutoff) > 0):
        raise BadInput(f"expected a positive integer after the @ in metric {name!r}", remedy=f"write {family}@10")
    if not at and not _FAMILIES[family][1]:
        raise BadInput(f"metric {name!r} needs a cutoff", remedy=f"write {family}@10")
    return family, int(cutoff) if at else None


def measure(
    qrels: Qrels, run: Run, metrics: Sequence[str], *, binary_cutoff: int = 1, complete: bool = True
) -> dict[str, dict[str, float]]:
    """Return metric -> query id -> score in [0, 1], with queries in the order of `qrels`.

    Queries without judgements are omitted with a warning; `complete=False` also omits judged queries without results.
    Raises `BadInput` for an unknown metric, a NaN score, a cutoff below 1, and if no query remains.
    """
    parsed = [(name, *parse_metric(name)) for name in metrics]
    if binary_cutoff < 1:
        raise BadInput(f"binary_cutoff is {binary_cutoff}", remedy="use the lowest relevant grade, 1 or more")
    query_ids = [id for id in qrels if complete or id in run]
    _check_queries(qrels, run, query_ids)
    qrels_QN2, run_QN2 = _arrays(qrels, run, query_ids)

    functions = load_metrics()
    return {
        name: _scores(functions, family, cutoff, qrels_QN2, run_QN2, query_ids, binary_cutoff)
        for name, family, cutoff in parsed
    }


def load_metrics() -> Any:
    """Return `ranx.metrics`. Importing it loads numba, which needs a folder for compiled functions: ours, if need be.

    Raises `BadInput` if there is none either. Call it before ranking, so that it can't fail after it.
    """
    try:
        import ranx.metrics
    except RuntimeError:  # numba found neither the installation nor the user's home writable
        import numba

        for name in [name for name in sys.modules if name.partition(".")[0] == "ranx"]:
            del sys.modules[name]
        folder = cache_dir() / "numba"
        config: Any = numba.config
        os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR = str(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            import ranx.metrics
        except (OSError, RuntimeError) as error:
            remedy = "set PERANK_CACHE or NUMBA_CACHE_DIR to a folder that can be written"
            raise BadInput(f"no folder for compiled metrics: {error}", remedy=remedy, path=folder) from error
    return ranx.metrics


def means(per_query: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return metric -> mean over its queries."""
    return {name: math.fsum(scores.values()) / len(scores) for name, scores in per_query.items()}


def _check_queries(qrels: Qrels, run: Run, query_ids: list[str]) -> None:
    unjudged = [id for id in run if id not in qrels]
    if not query_ids or (run and len(unjudged) == len(run)):
        raise BadInput(
            f"no query has both judgements and results: qrels have {_some(qrels)}, the run has {_some(run)}",
            remedy="use qrels and a run of the same queries",
        )
    if unjudged:
        log.warning("%d queries of the run have no judgements and are ignored: %s", len(unjudged), _some(unjudged))


def _some(ids: Mapping[str, object] | Sequence[str]) -> str:
    shown = ", ".join(list(ids)[:3])
    return f"{shown}, ... ({len(ids)})" if len(ids) > 3 else shown or "none"


def _arrays(qrels: Qrels, run: Run, query_ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Judgements by grade and results by rank, [Q, N, 2] each: position in the judgements, and grade or score."""
    judged, ranked = [], []
    for id in query_ids:
        by_grade = sorted(qrels[id].items(), key=lambda item: item[1], reverse=True)
        positions = {passage_id: float(i) for i, (passage_id, _) in enumerate(by_grade)}
        order = _trec_order(id, run.get(id, {}))
        judged.append([(float(i), float(grade)) for i, (_, grade) in enumerate(by_grade)])
        ranked.append([(positions.get(passage_id, _UNJUDGED), float(-i)) for i, passage_id in enumerate(order)])
    return _padded(judged), _padded(ranked)


def _trec_order(query_id: str, scores: Mapping[str, float]) -> list[str]:
    import numpy as np

    with np.errstate(over="ignore"):
        fp32 = np.array(list(scores.values()), dtype=np.float32)
    if np.isnan(fp32).any():
        passage_id = next(id for id, score in scores.items() if math.isnan(score))
        raise BadInput(
            f"passage {passage_id!r} has the score NaN, which has no rank", remedy="fix the run", id=query_id
        )
    return rank_order(dict(zip(scores, fp32.tolist(), strict=True)))


def _padded(rows: list[list[tuple[float, float]]]) -> np.ndarray:
    import numpy as np

    # Padding has a grade below every cutoff and an id without judgement, so it changes no metric.
    array = np.full((len(rows), max(map(len, rows)), 2), _PADDING)
    for i, row in enumerate(rows):
        array[i, : len(row)] = np.array(row).reshape(-1, 2)
    return array


def _scores(
    functions: Any,
    family: str,
    cutoff: int | None,
    qrels_QN2: np.ndarray,
    run_QN2: np.ndarray,
    query_ids: list[str],
    binary_cutoff: int,
) -> dict[str, float]:
    lowest_grade = 1 if family == "ndcg" else binary_cutoff
    function = getattr(functions, _FAMILIES[family][0])
    scores = function(qrels_QN2, run_QN2, cutoff or 0, lowest_grade)
    return dict(zip(query_ids, map(float, scores), strict=True))
