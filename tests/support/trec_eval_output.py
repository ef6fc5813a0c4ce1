"""What trec_eval printed in its own tests: read back, and its names for our metrics."""

from __future__ import annotations

from pathlib import Path

from perank.records import Run

OUTPUTS = {"aq": False, "aqc": True, "aqcM": True, "meas_params": False}
"""Output -> whether it averages over every judged query (-c)."""

TREC_EVAL_FAMILIES = {"ndcg_cut": "ndcg", "map_cut": "map", "recall": "recall", "P": "precision", "success": "success"}
TREC_EVAL_WHOLE = {"ndcg": "ndcg", "map": "map", "recip_rank": "mrr", "set_recall": "recall"}


def trec_eval_output(path: Path) -> dict[tuple[str, str], str]:
    """(trec_eval's measure, query id or "all") -> value as printed."""
    return {(name, id): value for name, id, value in map(str.split, path.read_text().splitlines())}


def our_name(measure_name: str) -> str | None:
    family, _, cutoff = measure_name.rpartition("_")
    if measure_name in TREC_EVAL_WHOLE:
        return TREC_EVAL_WHOLE[measure_name]
    return f"{TREC_EVAL_FAMILIES[family]}@{cutoff}" if family in TREC_EVAL_FAMILIES and cutoff.isdigit() else None


def shortened(run: Run, output: dict[tuple[str, str], str]) -> Run:
    """trec_eval's `results.trunc`: the run's first lines, as many a query as the output's `num_ret` says."""
    lengths = {id: int(output["num_ret", id]) for id in run}
    return {id: dict(list(scores.items())[: lengths[id]]) for id, scores in run.items() if lengths[id]}


def best_100(run: Run) -> Run:
    """trec_eval's -M100."""
    order = {id: sorted(scores, key=lambda passage: (scores[passage], passage))[-100:] for id, scores in run.items()}
    return {id: {passage: run[id][passage] for passage in passages} for id, passages in order.items()}
