"""A LangChain document compressor, e.g. for `ContextualCompressionRetriever`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from perank.adapters.scoring import ranked, ranker_or_default
from perank.records import Passage


class PERankCompressor(BaseDocumentCompressor):
    """Keeps the best `top_n` documents (None: all), best first, each a copy with `relevance_score` in its metadata.

    `ranker` is any `Ranker`, by default the packaged model. A document's `id` finds its vector in a ranker's store.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    ranker: Any = Field(default_factory=lambda: ranker_or_default(None))
    top_n: int | None = Field(default=None, ge=1)

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        """Return the reranked documents; the given ones don't change."""
        passages = [Passage(document.id or str(i), document.page_content) for i, document in enumerate(documents)]
        return [
            documents[i].model_copy(update={"metadata": {**documents[i].metadata, "relevance_score": score}})
            for i, score in ranked(self.ranker, query, passages, self.top_n)
        ]
