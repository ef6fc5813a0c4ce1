"""Data of stage 1: a text's vector and an instruction of Table 7 as input, the text as target (Eq. 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perank.errors import check_least
from perank.model import (
    ALIGN_INSTRUCTIONS,
    IGNORE,
    SLOT,
    AlignBatch,
    Prompt,
    PromptBatch,
    PromptBuilder,
    align_example,
    padded,
)
from perank.records import Passage, Vectors
from perank.training.stream import StreamModule, StreamSettings, row_at


@dataclass(frozen=True, slots=True)
class AlignExample:
    """Instruction and answer as one sequence, its targets (-100: ignored), and the text's vector."""

    prompt: Prompt
    targets: tuple[int, ...]
    vector_E: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AlignSettings(StreamSettings):
    """Answers are truncated to `text_tokens`, because the vector represents only the text's beginning."""

    batch_size: int = 8
    text_tokens: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("data", 1, text_tokens=self.text_tokens)


class AlignData(StreamModule):
    """Examples (vector, instruction, text), one per passage, cycling through Table 7's instructions.

    Passages without text are skipped and counted in `dropped`.
    """

    def __init__(
        self, passages: Sequence[Passage], vectors: Vectors, prompts: PromptBuilder, settings: AlignSettings
    ) -> None:
        super().__init__(settings)
        self.vectors, self.prompts, self.text_tokens = vectors, prompts, settings.text_tokens
        kept = [passage for passage in passages if passage.contents.strip()]
        self.keep(kept, len(passages), "no passage has a text", "use a collection whose passages have texts")

    def example(self, position: int) -> AlignExample:
        passage = self.kept[row_at(position, self.rows, self.seed)]
        user = ALIGN_INSTRUCTIONS[position % len(ALIGN_INSTRUCTIONS)].format(slot=SLOT)
        prompt, answer = align_example(self.prompts, user, passage.contents, text_tokens=self.text_tokens)
        targets = (IGNORE,) * len(prompt) + tuple(answer)
        whole = Prompt(prompt.ids + tuple(answer), prompt.slots)
        return AlignExample(whole, targets, self.vectors.get([passage.id])[0])

    def collate(self, examples: Sequence[AlignExample]) -> AlignBatch:
        return AlignBatch(
            prompt=PromptBatch.of([example.prompt for example in examples]),
            vectors_BNE=torch.from_numpy(np.stack([example.vector_E for example in examples]))[:, None],
            targets_BL=padded([example.targets for example in examples], IGNORE),
        )
