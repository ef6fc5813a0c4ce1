"""The shapes of suites that `conf/suite` names in a few lines: a BEIR folder, a TREC folder, a data set of ir_datasets.

`first_stage` is a run file, the name of a run that comes with the collection, or an encoder, whose own retrieval over
the whole collection it then is (`first_stage: ${encoder}`).
"""

from __future__ import annotations

from collections.abc import Sequence

from perank.evaluation.suites import Suite
from perank.records import TextEncoder
from perank.retrieval.bm25 import Bm25
from perank.retrieval.dense import Dense
from perank.sources.beir import BeirCollection
from perank.sources.irds import IrdsCollection
from perank.sources.trec import TrecCollection

FirstStage = str | TextEncoder | None
_METRICS = Suite.metrics


def beir_suite(
    *,
    name: str,
    folder: str,
    first_stage: FirstStage = None,
    depth: int = 100,
    max_queries: int | None = None,
    metrics: Sequence[str] = _METRICS,
    binary_cutoff: int = 1,
) -> Suite:
    """The test queries of a BEIR folder (corpus.jsonl, queries.jsonl, qrels/test.tsv); without a first stage, BM25."""
    searched = _searched(first_stage) or Bm25()
    return Suite(name, BeirCollection(folder, "test"), searched, depth, max_queries, metrics, binary_cutoff)


def trec_suite(
    *,
    name: str,
    folder: str,
    first_stage: str = "bm25",
    depth: int = 100,
    max_queries: int | None = None,
    metrics: Sequence[str] = _METRICS,
    binary_cutoff: int = 2,
) -> Suite:
    """A folder with TREC's files and runs of first stages; as on TREC DL, grade 2 and above count as relevant."""
    return Suite(name, TrecCollection(folder), first_stage, depth, max_queries, metrics, binary_cutoff)


def irds_suite(
    *,
    name: str,
    dataset: str,
    first_stage: FirstStage = None,
    depth: int = 100,
    max_queries: int | None = None,
    metrics: Sequence[str] = _METRICS,
    binary_cutoff: int = 1,
) -> Suite:
    """A data set of ir_datasets by its id; without a first stage, BM25."""
    searched = _searched(first_stage) or Bm25()
    return Suite(name, IrdsCollection(dataset), searched, depth, max_queries, metrics, binary_cutoff)


def _searched(first_stage: FirstStage) -> str | Dense | None:
    return first_stage if first_stage is None or isinstance(first_stage, str) else Dense(first_stage)
