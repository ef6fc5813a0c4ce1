"""Data of the reading stage: a text as the prompt's query, a few random passages' vectors, and its target vector."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perank.errors import BadInput, check_least
from perank.model import Prompt, PromptBatch, PromptBuilder, ReadBatch
from perank.records import Query, Vectors
from perank.training.stream import GroupedSettings, GroupedStream


@dataclass(frozen=True, slots=True)
class ReadExample:
    """A prompt, the ids of the passages at its slots, the target [E], and the query's vector for its slot, if any."""

    prompt: Prompt
    passages: tuple[str, ...]
    target_E: np.ndarray
    query_E: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class ReadSettings(GroupedSettings):
    """Prompts show `passages` random passages; every `wide_every`-th step shows `wide`, as many as a window has."""

    batch_size: int = 256
    passages: int = 3
    wide: int = 20
    wide_every: int = 5
    group_by_length: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("data", 1, passages=self.passages, wide=self.wide, wide_every=self.wide_every)


class ReadData(GroupedStream):
    """Prompts of texts with their targets. Texts whose prompt is too long are skipped and counted in `dropped`.

    `query_vectors` are the texts' own vectors, for prompts with a slot for them.
    """

    def __init__(
        self,
        texts: Sequence[Query],
        targets: Vectors,
        passage_ids: Sequence[str],
        vectors: Vectors,
        prompts: PromptBuilder,
        settings: ReadSettings,
        query_vectors: Vectors | None = None,
    ) -> None:
        super().__init__(settings)
        self.query_vectors = query_vectors
        self.targets, self.passage_ids, self.vectors = targets, passage_ids, vectors
        self.prompts, self.settings = prompts, settings
        self.keep_measured(texts, self._length, "no text fits")

    def example(self, position: int) -> ReadExample:
        text = self.kept[self.groups.row_at(position)]
        wide = position // self.batch_size % self.settings.wide_every == 0
        count = self.settings.wide if wide else self.settings.passages
        dice = random.Random(f"{self.seed}:{position}:passages")
        shown = tuple(self.passage_ids[dice.randrange(len(self.passage_ids))] for _ in range(count))
        query_E = None if self.query_vectors is None else self.query_vectors.get([text.id])[0]
        return ReadExample(self.prompts.rank(text.text, count), shown, self.targets.get([text.id])[0], query_E)

    def collate(self, examples: Sequence[ReadExample]) -> ReadBatch:
        vectors_XE = self.vectors.get([id for example in examples for id in example.passages])
        vectors_BNE = vectors_XE.reshape(len(examples), -1, vectors_XE.shape[1])
        queries = [torch.from_numpy(example.query_E) for example in examples if example.query_E is not None]
        return ReadBatch(
            prompt=PromptBatch.of([example.prompt for example in examples]),
            vectors_BNE=torch.from_numpy(np.ascontiguousarray(vectors_BNE, dtype=np.float32)),
            target_BE=torch.from_numpy(np.stack([example.target_E for example in examples])),
            query_BE=torch.stack(queries) if queries else None,
        )

    def _length(self, text: Query) -> int | None:
        """Tokens of the text's prompt, None if it doesn't fit."""
        try:
            return len(self.prompts.rank(text.text, self.settings.wide))
        except BadInput:
            return None
