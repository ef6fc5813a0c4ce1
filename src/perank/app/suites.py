"""Constructors of the suites in `conf/suite`: a BEIR folder, a TREC folder, an ir_datasets data set.

`first_stage` is a run file, the name of one of the collection's runs, a `Bm25` with settings of its own, or an encoder
for dense retrieval over the whole collection (`first_stage: ${encoder}`).
"""

from __future__ import annotations

from collections.abc import Sequence

from perank.evaluation import Suite
from perank.records import TextEncoder
from perank.retrieval.bm25 import Bm25
from perank.retrieval.dense import Dense
from perank.sources import TrecCollection
from perank.sources.beir import BeirCollection
from perank.sources.irds import IrdsCollection

FirstStage = str | Bm25 | TextEncoder | None
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
    """Build a suite from a BEIR folder (corpus.jsonl, queries.jsonl, qrels/test.tsv); by default with BM25."""
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
    """Build a suite from a folder of TREC files and runs; as on TREC DL, grades from 2 are relevant by default."""
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
    """Build a suite from an ir_datasets id; the default first stage is BM25."""
    searched = _searched(first_stage) or Bm25()
    return Suite(name, IrdsCollection(dataset), searched, depth, max_queries, metrics, binary_cutoff)


def _searched(first_stage: FirstStage) -> str | Dense | Bm25 | None:
    return first_stage if first_stage is None or isinstance(first_stage, str | Bm25) else Dense(first_stage)
