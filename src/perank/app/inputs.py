"""The inputs that a config describes: collection, encoder, vectors, first stage and LLM settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from perank.app.settings import as_dict, check_arguments, import_target, instantiate
from perank.files import cache_dir, file_lock
from perank.records import Collection, Passage
from perank.retrieval.encoding import QueryVectors, StoreOptions, cached_store
from perank.retrieval.store import EmbeddingStore

if TYPE_CHECKING:
    from perank.model import PromptBuilder

_MOST_ON_CPU = 200_000  # passages that are encoded on a CPU without being asked to: an hour on two cores


class Inputs:
    """Inputs of a config, each built on first use.

    `device` is for the encoder and dense search; "cpu" keeps the encoder's own setting.
    """

    def __init__(self, config: DictConfig, device: str = "cpu") -> None:
        self.config, self.device = config, device

    def make(self, group: str, **more: Any) -> Any:
        """Instantiate a config group."""
        return instantiate(self.config[group], **more)

    @cached_property
    def encoder(self) -> Any:
        """An `Encoder`."""
        return self.make("encoder", **({} if self.device == "cpu" else {"device": self.device}))

    @cached_property
    def collection(self) -> Collection:
        collection: Collection = self.make("collection")
        return collection

    @cached_property
    def first_stage(self) -> Any:
        """The retriever; a dense one shares this object's encoder."""
        settings, more = as_dict(self.config.first_stage), {"progress": self.config.get("progress", False)}
        make = import_target(settings.pop("_target_", None), "first_stage")
        if settings.pop("encoder", None) is not None:
            block = 512 if self.device == "cpu" else 8192  # queries encoded together
            more |= {"encoder": self.encoder, "device": self.device, "block": block}
        check_arguments(make, settings, "first_stage", more)
        return make(**settings, **more)

    @cached_property
    def store(self) -> EmbeddingStore:
        """The collection's passage vectors, encoded once."""
        return self.encoded(self.collection.name, self.collection.passages)

    @cached_property
    def query_vectors(self) -> QueryVectors:
        return QueryVectors(self.collection.queries, self.encoder)

    @cached_property
    def anchors(self) -> Any:
        """`AnchorSettings` of the model to train, or None."""
        return self.make("anchors") if self.config.get("anchors") else None

    @cached_property
    def llm(self) -> Any:
        """Settings of the LLM, whose weights are not loaded."""
        return self.make("backbone")

    @cached_property
    def prompts(self) -> Any:
        """A `PromptBuilder`, or `ListwisePrompts` if the LLM reads texts."""
        return self.make("prompt")(self.llm.tokenizer())

    @property
    def roomy_prompts(self) -> PromptBuilder:
        """Prompts of the same version without a length limit."""
        from perank.model import PromptBuilder

        return PromptBuilder(self.llm.tokenizer(), self.config.prompt.version, max_length=1 << 30)

    def encoded(self, name: str, passages: Mapping[str, Passage]) -> EmbeddingStore:
        """Return the cached store of these passages, encoding them if needed, unless a CPU would take hours for it."""
        on_cpu = str(getattr(self.encoder, "torch_device", "")) == "cpu"
        options = StoreOptions(most=_MOST_ON_CPU if on_cpu else None)
        with file_lock(cache_dir() / "embeddings" / f".{name}.lock"):  # other devices need the same store
            return cached_store(name, passages, self.encoder, options=options)
