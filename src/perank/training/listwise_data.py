"""RankMistral's data: the rows of stage 2 as prompts with texts and the teacher's order as identifiers (Table 10).

With the same rows and seed a row's passages are shown in the same shuffled order as PE-Rank's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perank.errors import BadInput
from perank.model.batches import AnswerBatch, padded
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.losses import IGNORE
from perank.records import Passage
from perank.sources.views import TextView
from perank.training.rows import RankRow
from perank.training.stream import StreamModule, row_at, shuffled


@dataclass(frozen=True, slots=True)
class AnswerExample:
    """Prompt and answer as one sequence, and its targets (-100: none)."""

    ids: tuple[int, ...]
    targets: tuple[int, ...]


class ListwiseData(StreamModule):
    """Rows -> shuffled prompts with texts, and answers -> batches.

    Texts are shortened evenly where prompt and answer would exceed the prompts' `max_length`. Rows of one passage, and
    rows that don't even fit without texts, are left out and counted in `dropped`. Raises `BadInput` where none is left,
    and for a passage without a text.
    """

    def __init__(
        self,
        rows: Sequence[RankRow],
        passages: Mapping[str, Passage],
        prompts: ListwisePrompts,
        *,
        view: TextView,
        shuffle: bool = True,
        batch_size: int = 4,
        epochs: int = 1,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, epochs=epochs, seed=seed, num_workers=num_workers)
        self.passages, self.prompts, self.view, self.shuffle = passages, prompts, view, shuffle
        self._least: dict[int, int] = {}
        self.kept = [row for row in rows if len(row.order) > 1 and self._fits(row)]
        self.dropped = len(rows) - len(self.kept)
        if not self.kept:
            raise BadInput(f"none of the {len(rows)} rows fits the prompt", remedy="raise prompt.max_length")

    @property
    def rows(self) -> int:
        return len(self.kept)

    def example(self, position: int) -> AnswerExample:
        row = self.kept[row_at(position, self.rows, self.seed)]
        n = len(row.passage_ids)
        shown = shuffled(n, self.seed, position) if self.shuffle else list(range(n))
        place = {candidate: slot for slot, candidate in enumerate(shown)}
        texts = [self._text(row.passage_ids[candidate]) for candidate in shown]
        prompt = self.prompts.rank(row.query.text, texts, within=self._room(n))
        answer = self.prompts.answer(prompt, [place[candidate] for candidate in row.order])
        return AnswerExample((*prompt.ids, *answer), (*([IGNORE] * len(prompt.ids)), *answer))

    def collate(self, examples: Sequence[AnswerExample]) -> AnswerBatch:
        return AnswerBatch(
            ids_BL=padded([example.ids for example in examples], 0),
            targets_BL=padded([example.targets for example in examples], IGNORE),
        )

    def _room(self, n: int) -> int:
        return (
            self.prompts.max_length - self.prompts.answer_tokens(n) - 1
        )  # an answer may begin with a blank of its own

    def _text(self, id: str) -> str:
        try:
            return self.view(self.passages[id])
        except KeyError as error:
            remedy = "use the collection that the rows were made from"
            raise BadInput("there is no text for this passage", remedy=remedy, id=id) from error

    def _fits(self, row: RankRow) -> bool:
        """Whether the row's prompt fits without texts; a bound first, because rows are many."""
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
