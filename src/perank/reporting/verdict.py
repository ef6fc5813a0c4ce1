"""What an evaluation says in one sentence a baseline: above it, below it, or not to be told apart on these queries."""

from __future__ import annotations

from collections.abc import Sequence

from perank.evaluation.result import Evaluation


def verdict(found: Evaluation, baselines: Sequence[Evaluation], metric: str = "ndcg@10") -> str:
    """Lines for people, such as `beir: PE-Rank 0.4492 is below encoder 0.6678 (p < 0.001, 361 queries)`."""
    return "\n".join(_line(found, baseline, metric) for baseline in baselines)


def _line(found: Evaluation, baseline: Evaluation, metric: str) -> str:
    ours, theirs = found.means[metric], baseline.means[metric]
    p = found.p_value(baseline, metric)
    if p is None or p >= 0.05:
        said = "does not differ significantly from"
    else:
        said = "is above" if ours > theirs else "is below"
    tested = "" if p is None else "p < 0.001, " if p < 0.001 else f"p = {p:.3f}, "
    queries = f"{found.n_queries} quer{'y' if found.n_queries == 1 else 'ies'}"
    return (
        f"{found.suite}: {found.system} {ours:.4f} {said} {baseline.system} {theirs:.4f} ({metric}, {tested}{queries})"
    )
