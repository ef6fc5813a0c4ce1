"""PE-Rank as a search model of MTEB (`SearchProtocol`), for its reranking tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mteb.models import ModelMeta

from perank.adapters.scoring import ranker_or_default
from perank.errors import BadInput
from perank.files import sha256_of_text
from perank.records import Candidates, Passage, Query, Ranker, rank_scores

_QUERIES_PER_CALL = 64


class PERankSearch:
    """`mteb.evaluate(PERankSearch(), tasks)`: ranks each query's candidates of a reranking task together.

    Many reranking tasks list relevant documents first, which a listwise ranker could profit from: candidates are read
    in the order of their ids' hashes, unless `keep_order` says that a task's order is a first stage's. `name` and
    `revision` identify the model in MTEB's results.
    """

    def __init__(
        self,
        ranker: Ranker | None = None,
        *,
        name: str = "perank/packaged",
        revision: str = "0",
        keep_order: bool = False,
    ) -> None:
        self.ranker, self.keep_order = ranker_or_default(ranker), keep_order
        settings = {"name": name, "revision": revision, "model_type": ["cross-encoder"], "framework": ["PyTorch"]}
        self.mteb_model_meta = ModelMeta.create_empty(overwrites=settings)
        self._corpus: Any = None
        self._rows: dict[str, int] = {}

    def index(self, corpus: Any, **_: Any) -> None:
        """Keep the corpus (rows with `id`, `text`, maybe `title`), whose texts are read when they are ranked."""
        self._corpus, self._rows = corpus, {id: row for row, id in enumerate(corpus["id"])}

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **_: Any
    ) -> dict[str, dict[str, float]]:
        """Return query id -> document id -> score, `top_k` documents each, best first.

        Raises `BadInput` for a task without candidates, a query that has none, and a document that isn't in the corpus.
        """
        if top_ranked is None:
            raise BadInput("the task has no candidates", remedy="use a reranking task, or search first")
        found: dict[str, dict[str, float]] = {}
        rows = list(queries)
        for start in range(0, len(rows), _QUERIES_PER_CALL):
            batch = [self._candidates(row, top_ranked) for row in rows[start : start + _QUERIES_PER_CALL]]
            for ranking in self.ranker.rank_batch(batch):
                scored = zip(ranking.passage_ids, rank_scores(len(ranking.order)), strict=True)
                found[ranking.candidates.query.id] = dict(list(scored)[:top_k])
        return found

    def _candidates(self, row: Mapping[str, Any], top_ranked: Mapping[str, Sequence[str]]) -> Candidates:
        query = Query(row["id"], row["text"])
        if query.id not in top_ranked:
            raise BadInput("the query has no candidates", remedy="drop it from the task", id=query.id)
        ids: Iterable[str] = top_ranked[query.id]
        if not self.keep_order:
            ids = sorted(ids, key=lambda id: sha256_of_text(f"{query.id} {id}"))
        return Candidates(query, tuple(self._passage(id) for id in ids))

    def _passage(self, id: str) -> Passage:
        if id not in self._rows:
            raise BadInput("a candidate is not in the corpus", remedy="download the task again", id=id)
        row = self._corpus[self._rows[id]]
        return Passage(id, row["text"], row.get("title") or "")
