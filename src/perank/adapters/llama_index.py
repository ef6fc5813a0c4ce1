"""A LlamaIndex node postprocessor, for the `node_postprocessors` of a query engine."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from perank.adapters.scoring import ranked, ranker_or_default
from perank.errors import BadInput
from perank.records import Passage


class PERankPostprocessor(BaseNodePostprocessor):
    """Keeps the best `top_n` nodes (None: all), best first, with new scores.

    Nodes are read with the metadata that LlamaIndex shows to embedding models. `ranker` is any `Ranker`, by default the
    packaged model; a node's id finds its vector in a ranker's store.
    """

    ranker: Any = Field(default_factory=lambda: ranker_or_default(None), exclude=True)
    top_n: int | None = Field(default=None, ge=1)

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's serialisations."""
        return "PERankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise BadInput("no query", remedy="give query_bundle or query_str")
        passages = [Passage(found.node.node_id, found.node.get_content(MetadataMode.EMBED)) for found in nodes]
        results = ranked(self.ranker, query_bundle.query_str, passages, self.top_n)
        return [NodeWithScore(node=nodes[i].node, score=score) for i, score in results]
