"""RankMistral's data: the rows of stage 2 as prompts with texts, the teacher's order as identifiers (Table 10).

With the same rows and seed, passages are shuffled as in PE-Rank's training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perank.errors import BadInput
from perank.model import IGNORE, AnswerBatch, ListwisePrompts, padded
from perank.records import Passage
from perank.sources.views import text_view
from perank.training.rows import RankRow, passages_of, shuffled
from perank.training.stream import StreamModule, StreamSettings, row_at


@dataclass(frozen=True, slots=True)
class AnswerExample:
    """Prompt and answer as one sequence, and its targets (-100: ignored)."""

    ids: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ListwiseSettings(StreamSettings):
    """`text` selects the part of a passage that the prompt shows, see `text_view`."""

    batch_size: int = 4
    text: str = "contents"


class ListwiseData(StreamModule):
    """Batches of shuffled prompts with texts and their answers.

    Texts are shortened evenly if prompt and answer would exceed the prompts' `max_length`. Rows with one passage, and
    rows that don't fit even without texts, are skipped and counted in `dropped`. Raises `BadInput` if no row remains,
    and for a passage without text.
    """

    def __init__(
        self,
        rows: Sequence[RankRow],
        passages: Mapping[str, Passage],
        prompts: ListwisePrompts,
        settings: ListwiseSettings,
    ) -> None:
        super().__init__(settings)
        self.passages, self.prompts, self.view = passages, prompts, text_view(settings.text)
        self._least: dict[int, int] = {}
        kept = [row for row in rows if len(row.order) > 1 and self._fits(row)]
        self.keep(kept, len(rows), f"none of the {len(rows)} rows fits the prompt", "raise prompt.max_length")

    def example(self, position: int) -> AnswerExample:
        row: RankRow = self.kept[row_at(position, self.rows, self.seed)]
        n = len(row.order)
        row = row.shown(shuffled(n, self.seed, position))
        texts = [self.view(passage) for passage in passages_of(self.passages, row.passage_ids)]
        prompt = self.prompts.rank(row.query.text, texts, within=self._room(n))
        answer = self.prompts.answer(prompt, row.order)
        return AnswerExample((*prompt.ids, *answer), (*([IGNORE] * len(prompt.ids)), *answer))

    def collate(self, examples: Sequence[AnswerExample]) -> AnswerBatch:
        return AnswerBatch(
            ids_BL=padded([example.ids for example in examples], 0),
            targets_BL=padded([example.targets for example in examples], IGNORE),
        )

    def _room(self, n: int) -> int:
        return self.prompts.max_length - self.prompts.answer_tokens(n) - 1  # an answer may begin with a space token

    def _fits(self, row: RankRow) -> bool:
        """Whether the prompt fits without texts; most rows pass a cheap bound and are never tokenized."""
        n = len(row.passage_ids)
        if n not in self._least:
            self._least[n] = len(self.prompts.rank("?", [""] * n, within=1 << 30).ids)
        if self._least[n] + 2 * len(row.query.text.encode()) <= self._room(n):
            return True
        try:
            self.prompts.rank(row.query.text, [""] * n, within=self._room(n))
        except BadInput:
            return False
        return True
