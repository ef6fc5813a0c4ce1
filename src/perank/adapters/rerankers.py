"""PE-Rank as a model of the `rerankers` package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerankers.models.ranker import BaseRanker
from rerankers.results import RankedResults, Result
from rerankers.utils import prep_docs

from perank.adapters.scoring import ranked, ranker_or_default
from perank.errors import BadInput
from perank.records import Passage, Ranker


class PERankRanker(BaseRanker):
    """A `rerankers` model: texts or `rerankers.Document`s in, `RankedResults` with ranks from 1 and scores out."""

    def __init__(self, ranker: Ranker | None = None, verbose: int = 0) -> None:
        self.ranker, self.verbose, self.ranking_type = ranker_or_default(ranker), verbose, "listwise"

    def rank(
        self,
        query: str,
        docs: Any,
        doc_ids: Sequence[str] | Sequence[int] | None = None,
        metadata: Sequence[dict[str, Any]] | None = None,
    ) -> RankedResults:
        """Rank documents. Raises `BadInput` for an image."""
        documents = prep_docs(docs, doc_ids, metadata) if docs else []
        for document in documents:
            if document.text is None:
                problem = "the document has no text"
                raise BadInput(problem, remedy="leave images out", id=str(document.doc_id))
        passages = [Passage(str(document.doc_id), document.text) for document in documents]
        found = enumerate(ranked(self.ranker, query, passages), start=1)
        results = [Result(document=documents[i], score=score, rank=rank) for rank, (i, score) in found]
        return RankedResults(results=results, query=query, has_scores=True)

    def score(self, query: str, doc: str) -> float:
        """Raises `BadInput`: PE-Rank compares documents with each other."""
        raise BadInput("a single document has no score", remedy="rank it together with others")
