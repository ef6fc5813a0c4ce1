"""A Haystack ranker component."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from perank.adapters.scoring import ranked
from perank.errors import BadInput
from perank.ranking.reranker import Reranker
from perank.records import Passage, Ranker


@component
class PERankRanker:
    """Returns the best `top_k` documents (None: all), best first, as copies with new scores.

    The model is loaded by `warm_up` or the first run: a folder, a Hub id, or (None) the packaged one. With a `ranker`
    of your own the component can't be serialised. A document's id finds its vector in a ranker's store.
    """

    def __init__(
        self, model: str | None = None, *, top_k: int | None = None, device: str = "cpu", ranker: Ranker | None = None
    ) -> None:
        if top_k is not None and top_k < 1:
            raise BadInput(f"top_k is {top_k}", remedy="use 1 or more")
        self.model, self.top_k, self.device, self._given = model, top_k, device, ranker
        self._ranker = ranker

    def to_dict(self) -> dict[str, Any]:
        """Serialise the settings. Raises `BadInput` if a ranker object was given."""
        if self._given is not None:
            raise BadInput("a ranker object can't be serialised", remedy="give the name of a model")
        return dict(default_to_dict(self, model=self.model, top_k=self.top_k, device=self.device))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PERankRanker:
        """Create the component from `to_dict`'s result."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Load the model."""
        if self._ranker is None:
            self._ranker = Reranker.from_pretrained(self.model, device=self.device)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, list[Document]]:
        """Rank `documents`; `top_k` overrides the constructor's. Raises `BadInput` for a document without text."""
        self.warm_up()
        assert self._ranker is not None
        stored = getattr(self._ranker, "store", None) is not None
        for document in documents:
            if document.content is None and not stored:
                raise BadInput("the document has no text", remedy="leave other documents out", id=document.id)
        passages = [Passage(document.id, document.content or "") for document in documents]
        found = ranked(self._ranker, query, passages, top_k or self.top_k)
        return {"documents": [replace(documents[i], score=score) for i, score in found]}
