"""How many rankings change with what they are batched with, in fp32 and bf16, and by how much NDCG@10.

    python experiments/robustness/batch_rounding.py --write      # batch_rounding.csv

The packaged model ranks the first candidates of pydocs' test queries (BM25, one window of 20 each): every query alone,
then in batches of several sizes. A batch changes the shapes of the products, and with them the rounding; a ranking
changes only where two scores are closer than that.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIZES = (64, 8)


def main() -> None:
    """Rank, compare, print, and with --write write batch_rounding.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--write", action="store_true", help="write batch_rounding.csv")
    options = parser.parse_args()
    suite, candidates = drawn(options.queries)
    columns = ("dtype", "batch", "queries", "rankings_differ", "top_10_differ", "ndcg_alone", "ndcg", "largest_change")
    print(*columns, sep="\t")
    rows = [row for dtype in options.dtypes for row in compared(dtype, suite, candidates)]
    if options.write:
        from written import write_table

        write_table("batch_rounding", columns, rows)


def drawn(queries: int) -> tuple[Any, list[Any]]:
    """The suite of pydocs' test queries and the candidates of the first of them."""
    from perank.evaluation.suites import Suite
    from perank.retrieval.bm25 import Bm25
    from perank.sources.pydocs import PyDocs

    suite = Suite(name="pydocs", collection=PyDocs(split="test"), first_stage=Bm25(), depth=20)
    return suite, suite.candidates()[:queries]


def compared(dtype: str, suite: Any, candidates: Sequence[Any]) -> list[tuple[Any, ...]]:
    """A row for each batch size: how many rankings differ from those made alone, and NDCG@10."""
    from perank import Reranker
    from perank.evaluation.evaluator import evaluate_run
    from perank.records import strictly_decreasing

    reranker = Reranker.from_pretrained(dtype=dtype, batch_tokens=1_000_000)
    reranker.store = encoded(reranker, candidates)
    ids = [found.query.id for found in candidates]

    def ndcg(rankings: Sequence[Any]) -> dict[str, float]:
        run = {id: strictly_decreasing(ranking.passage_ids) for id, ranking in zip(ids, rankings, strict=True)}
        return dict(evaluate_run(run, suite, query_ids=ids).per_query["ndcg@10"])

    def ranked(size: int) -> list[Any]:
        began, rankings = time.perf_counter(), []
        for start in range(0, len(candidates), size):
            rankings += reranker.rank_batch(candidates[start : start + size])
        print(f"{dtype}, {size} together: {time.perf_counter() - began:.0f} s", flush=True)
        return rankings

    alone = ranked(1)
    before, rows = ndcg(alone), []
    for size in SIZES:
        together = ranked(size)
        pairs = [(one.order, other.order) for one, other in zip(alone, together, strict=True)]
        after = ndcg(together)
        mean = lambda values: round(sum(values.values()) / len(values), 4)  # noqa: E731
        largest = max(abs(after[id] - before[id]) for id in before)
        differ = (sum(one != other for one, other in pairs), sum(one[:10] != other[:10] for one, other in pairs))
        rows.append((dtype, size, len(pairs), *differ, mean(before), mean(after), round(largest, 4)))
        print(*rows[-1], sep="\t", flush=True)
    return rows


def encoded(reranker: Any, candidates: Sequence[Any]) -> Any:
    """The passages' vectors in memory, each encoded once: only the LLM's batches differ."""
    import numpy as np

    passages = {passage.id: passage for found in candidates for passage in found.passages}
    vectors = reranker.encoder.encode_passages([passage.contents for passage in passages.values()]).numpy()
    rows = dict(zip(passages, vectors, strict=True))

    class InMemory:
        def get(self, ids: Sequence[str]) -> Any:
            return np.stack([rows[id] for id in ids])

    return InMemory()


if __name__ == "__main__":
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
