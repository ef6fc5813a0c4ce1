"""One collection, one saved model, a few queries with stored vectors: what the speed of reranking is measured on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from hydra import compose, initialize_config_dir

from perank.app.saved_model import SavedModel
from perank.baselines.fixed_length import FixedLengthListwise
from perank.files import CONF_DIR
from perank.model.listwise_prompts import ListwisePrompts
from perank.ranking.shared_prefix import SharedPrefix
from perank.ranking.windows import Windows
from perank.records import Candidates, Ranker
from perank.retrieval.store import EmbeddingStore
from perank.saving.pretrained import Pretrained


class Setting:
    """`queries` of a suite of `conf/suite` (a sample by hash of their ids) with `depth` candidates each.

    The model ranks in the paper's form, which the authors' procedure has too: anchors are left out.
    """

    def __init__(self, suite: str, model: str, queries: int, depth: int, device: str, dtype: str) -> None:
        prefix = f"++suite.{suite}"
        overrides = [f"suite={suite}", f"{prefix}.depth={depth}", f"{prefix}.max_queries={queries}"]
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose("efficiency", overrides=[*overrides, f"model={model}", f"dtype={dtype}"])
        saved = SavedModel(config, device=device)
        self.found: Pretrained = saved.pe_rank
        self.found.model.anchors = None
        self.suites, self.suite = saved.suites, saved.suites[0]
        self.device = torch.device(device)

    @cached_property
    def candidates(self) -> Sequence[Candidates]:
        """Queries whose first stage found as many as asked for come first."""
        return sorted(self.suite.candidates(), key=len, reverse=True)

    @cached_property
    def store(self) -> EmbeddingStore:
        """Vectors of all candidates."""
        return self.suites.candidate_store(self.suite)

    def text_listwise(self, windows: Windows, **options: Any) -> Ranker:
        """The same LLM reading the passages' texts."""
        prompts = ListwisePrompts(self.found.prompts.tokenizer, max_length=8192)
        return FixedLengthListwise(self.found.model.llm, prompts, windows=windows, **options)

    def prompt_tokens(self, candidates: Candidates, windows: Windows, least_shared: float = math.inf) -> list[int]:
        """Tokens read of each window's prompt; a beginning of at least `least_shared` of a prompt is read once."""
        spans = windows.plan(len(candidates))
        first, *later = [self.found.prompts.rank(candidates.query.text, span.size) for span in spans]
        prefix = SharedPrefix.of(first, least_shared)
        return [len(first), *(len(prompt) - (prefix.tokens(prompt) if prefix else 0) for prompt in later)]

    def describe(self) -> str:
        """The LLM and the lengths that matter."""
        return f"{self.found.llm.name}, {len(self.found.model.decoder.layers)} layers"
