"""Stage 1's data: a text's vector and an instruction of Table 7 -> the text (Eq. 2 and 3), as `AlignBatch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perank.errors import BadInput
from perank.model.align_prompt import align_example
from perank.model.batches import AlignBatch, PromptBatch, padded
from perank.model.losses import IGNORE
from perank.model.prompts import SLOT, Prompt, PromptBuilder
from perank.model.templates import ALIGN_INSTRUCTIONS
from perank.records import Passage, Vectors
from perank.training.stream import StreamModule, row_at


@dataclass(frozen=True, slots=True)
class AlignExample:
    """Instruction and answer as one sequence, its targets (-100: none), and the text's vector."""

    prompt: Prompt
    targets: tuple[int, ...]
    vector_E: np.ndarray


class AlignData(StreamModule):
    """Passages -> (vector, instruction, text). The instruction changes with the position in the stream.

    Answers longer than `text_tokens` are cut: the vector saw the beginning too. `instructions` default to Table 7.
    Passages without a text are left out and counted in `dropped`.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        vectors: Vectors,
        prompts: PromptBuilder,
        *,
        text_tokens: int = 128,
        instructions: Sequence[str] = ALIGN_INSTRUCTIONS,
        batch_size: int = 8,
        epochs: int = 1,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, epochs=epochs, seed=seed, num_workers=num_workers)
        self.vectors, self.prompts, self.text_tokens = vectors, prompts, text_tokens
        self.instructions = tuple(instructions)
        if text_tokens < 1:
            raise BadInput(f"{text_tokens} tokens of a text", remedy="use 1 or more", id="data.text_tokens")
        self.kept = [passage for passage in passages if passage.contents.strip()]
        self.dropped = len(passages) - len(self.kept)
        if not self.kept:
            raise BadInput("there are no texts to align on", remedy="name a collection with passages")

    @property
    def rows(self) -> int:
        return len(self.kept)

    def example(self, position: int) -> AlignExample:
        passage = self.kept[row_at(position, self.rows, self.seed)]
        user = self.instructions[position % len(self.instructions)].format(slot=SLOT)
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
