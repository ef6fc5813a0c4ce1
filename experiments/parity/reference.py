"""The authors' numbers on shared random weights (`fixtures/pe_rank`), and perank's objects made from the same files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perank.files import read_json
from perank.model.align_prompt import align_example
from perank.model.batches import IGNORE, AlignBatch, PromptBatch, RankBatch, padded
from perank.model.encoders.encoder import Encoder
from perank.model.pe_rank import PERank
from perank.model.prompts import Prompt, PromptBuilder
from perank.preparation.authors_jsonl import (
    PLACEHOLDER,
    AlignmentRow,
    RankingRow,
    read_alignment,
    read_ranking,
    slotted,
)
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.saving.authors_checkpoint import read_authors_checkpoint
from perank.training.rank_data import RankExample, rank_batch


@dataclass(frozen=True)
class Reference:
    """One folder of fixtures. Training encodes 128 tokens of a text there and inference 512: two encoders here."""

    folder: Path

    @cached_property
    def _published(self) -> Any:
        return read_authors_checkpoint(self.folder / "checkpoint", encoder=str(self.folder / "encoder"))

    @property
    def model(self) -> PERank:
        return self._published.model

    @property
    def prompts(self) -> PromptBuilder:
        return self._published.prompts

    @cached_property
    def expected(self) -> Any:
        return read_json(self.folder / "expected.json")

    @cached_property
    def decoded(self) -> Any:
        return read_json(self.folder / "decode_expected.json")

    @cached_property
    def alignment(self) -> list[AlignmentRow]:
        return read_alignment(self.folder / "stage1.jsonl")

    @cached_property
    def ranking(self) -> list[RankingRow]:
        return read_ranking(self.folder / "stage2.jsonl")

    @cached_property
    def _encoders(self) -> dict[int, Encoder]:
        return {length: Encoder(str(self.folder / "encoder"), max_length=length) for length in (128, 512)}

    def with_placeholders(self, prompt: Prompt) -> list[int]:
        """The prompt's ids as their tokenizer writes them, `<PLACEHOLDER>`s included."""
        placeholder = self.prompts.tokenizer.convert_tokens_to_ids(PLACEHOLDER)
        return [placeholder if i in prompt.slots else id for i, id in enumerate(prompt.ids)]

    def encode(self, texts: Sequence[str], max_length: int) -> Tensor:
        """Unit vectors [N, E] of the texts' first `max_length` tokens."""
        return self._encoders[max_length].encode_passages(texts)

    def align_sequence(self, row: AlignmentRow) -> tuple[Prompt, tuple[int, ...]]:
        """(prompt, answer ids) of an alignment row."""
        return align_example(self.prompts, slotted(row.user), row.answer)

    def align_batch(self, rows: Sequence[AlignmentRow]) -> AlignBatch:
        """A batch of alignment rows, of any numbers of placeholders."""
        pairs = [self.align_sequence(row) for row in rows]
        vectors = [self.encode(row.spliced, 128) for row in rows]
        return AlignBatch(
            prompt=PromptBatch.of([Prompt(prompt.ids + answer, prompt.slots) for prompt, answer in pairs]),
            vectors_BNE=torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True),
            targets_BL=padded([[IGNORE] * len(prompt) + [*answer] for prompt, answer in pairs], IGNORE),
        )

    def rank_batch(self, rows: Sequence[RankingRow]) -> RankBatch:
        """A batch of ranking rows with their own prompts, as stage 2 reads it."""
        return rank_batch(
            [
                RankExample(
                    prompt=self.prompts.chat(slotted(row.user)),
                    content=self.prompts.chat(slotted(row.user_with_texts)),
                    vectors_NE=self.encode(row.passages, 128).numpy(),
                    order=row.order,
                    query_E=None,
                )
                for row in rows
            ]
        )

    def reranker(self, windows: Windows, decoder: str) -> Reranker:
        """perank's own reranker with this model; the encoder reads 512 tokens, as theirs does in use."""
        return Reranker(self.model, self.prompts, self._encoders[512], windows=windows, decoder=decoder)

    def scores_after(self, prompt: Prompt, vectors_NE: Tensor, ranked: Sequence[int]) -> Tensor:
        """Every step's scores [K + 1, N] once the candidates `ranked` (K of them) have been fed back."""
        # The last rank of an order is never fed back, so any candidate can stand there.
        batch = RankBatch(
            prompt=PromptBatch.of([prompt]),
            vectors_BNE=vectors_NE[None],
            candidates_BN=torch.ones(1, len(vectors_NE), dtype=torch.bool),
            order_BK=torch.tensor([[*ranked, 0]]),
        )
        with torch.inference_mode():
            return self.model.step_scores(batch)[0]

    def greedy(self, prompt: Prompt, vectors_NE: Tensor) -> list[int]:
        """Algorithm 1 by brute force: a whole forward a step, ties to the lower position."""
        ranked: list[int] = []
        for _ in range(len(vectors_NE)):
            last_N = self.scores_after(prompt, vectors_NE, ranked)[-1].clone()
            last_N[ranked] = -torch.inf
            ranked.append(int(last_N.argmax()))
        return ranked
