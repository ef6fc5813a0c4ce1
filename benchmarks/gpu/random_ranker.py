"""A PE-Rank model of Mistral-7B's size with random weights, its prompts and its queries: nothing has to be fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder
from perank.planning.random_llm import random_mistral
from perank.planning.sequence_lengths import StandInTokenizer
from perank.ranking.decoder import Window, WindowBatch
from perank.records import Candidates, Passage, Query

WIDTH = 768  # of Jina's vectors
TINY = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
_QUERY = "the meaning of a query of about eight words"


class RandomVectors:
    """Unit vectors by passage id, the same each time."""

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """fp32 [N, E]."""
        made = np.stack([np.random.default_rng(int(id)).standard_normal(WIDTH, dtype=np.float32) for id in ids])
        return made / np.linalg.norm(made, axis=1, keepdims=True)


@dataclass
class RandomRanker:
    """`model` with prompts of the reference template, whose lengths are about those of Mistral's tokenizer."""

    model: PERank
    prompts: PromptBuilder
    vectors: RandomVectors

    @classmethod
    def of(cls, device: torch.device, *, tiny: bool) -> RandomRanker:
        """Create it on the device, in bf16 on a GPU."""
        sizes = TINY | {"num_key_value_heads": 2} if tiny else {}
        dtype = "bfloat16" if device.type == "cuda" else "float32"
        model = random_mistral(32_000, width=WIDTH, device=str(device), dtype=dtype, **sizes)
        return cls(model, PromptBuilder(StandInTokenizer(), "reference"), RandomVectors())

    def queries(self, number: int, candidates: int) -> list[Candidates]:
        """Queries with so many candidates each."""
        return [
            Candidates(
                Query(f"q{q}", _QUERY), tuple(Passage(str(q * candidates + i), "text") for i in range(candidates))
            )
            for q in range(number)
        ]

    def windows(self, rows: int, passages: int, depth: int, device: torch.device) -> WindowBatch:
        """The first window of so many queries."""
        found = [
            Window(self.prompts.rank(query.query.text, passages), torch.from_numpy(self.vectors.get(ids)), depth)
            for query in self.queries(rows, passages)
            for ids in [[passage.id for passage in query.passages]]
        ]
        return WindowBatch.of(found).to(device)
