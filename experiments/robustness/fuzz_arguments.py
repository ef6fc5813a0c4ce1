"""Random arguments for `Reranker.rank`: each call ranks, or raises `BadInput`.

    python experiments/robustness/fuzz_arguments.py --examples 10000

Texts, dicts, `Passage`s, generators, arrays, vectors and numbers of every type, good and bad mixed
(tests/support/arguments.py), for a tiny random model.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    """Draw, rank, count. Any other exception ends the run with hypothesis' smallest example."""
    from hypothesis import HealthCheck, given, seed, settings

    from perank import Reranker
    from perank.errors import BadInput
    from support import arguments, tiny
    from support.fake_encoders import HashEncoder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    reranker = Reranker(tiny.tiny_model(5), tiny.tiny_prompts(), HashEncoder())
    counts: Counter[str] = Counter()

    @seed(options.seed)
    @settings(max_examples=options.examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(query=arguments.QUERIES, documents=arguments.DOCUMENTS, more=arguments.OPTIONS)
    def ranks_or_refuses(query: Any, documents: Any, more: dict[str, Any]) -> None:
        try:
            ranking = reranker.rank(query, documents, **more)
        except BadInput as error:
            assert error.problem and error.remedy
            counts["refused"] += 1
        else:
            assert sorted(ranking.order) == list(range(len(ranking.documents)))
            counts["ranked"] += 1

    ranks_or_refuses()
    print(f"{counts.total()} calls: {counts['ranked']} ranked, {counts['refused']} refused, 0 with another exception")


if __name__ == "__main__":
    main()
