"""Evaluate rankings: suites of queries, metrics, significance. Heavy packages are imported on use."""

from perank.evaluation.evaluator import RankedQueries, evaluate_ranked, evaluate_ranker, evaluate_run, rank_suite
from perank.evaluation.result import Evaluation, device_name, perank_version, read_entries, read_per_query, slug
from perank.evaluation.suites import Suite, check_on_failure

__all__ = [
    "Evaluation", "RankedQueries", "Suite", "check_on_failure", "device_name", "evaluate_ranked", "evaluate_ranker",
    "evaluate_run", "perank_version", "rank_suite", "read_entries", "read_per_query", "slug",
]  # fmt: skip
