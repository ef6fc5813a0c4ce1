"""Stage 2's data: rows with the teacher's order -> `RankBatch`. Every passage's vector comes from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perank.errors import BadInput
from perank.model.batches import PromptBatch, RankBatch, padded
from perank.model.prompts import Prompt, PromptBuilder
from perank.records import Passage, Vectors
from perank.training.curriculum import schedule_of, shortened, stage_at
from perank.training.rows import RankRow
from perank.training.stream import LengthGroups, StreamModule, shuffled


@dataclass(frozen=True, slots=True)
class RankExample:
    """One row in the prompt order it is shown in; `order` are the positions of the first K ranks."""

    prompt: Prompt
    content: Prompt | None
    vectors_NE: np.ndarray
    order: tuple[int, ...]
    query_E: np.ndarray | None


class RankData(StreamModule):
    """Rows -> prompts, shuffled unless `shuffle` is off and a row's own order stays -> batches.

    `steps` trains the first K ranks only (None: all); `curriculum` shows early rows in part, see `schedule_of`.
    `group_by_length` steps share out their rows by length (1: rows as they come).
    `text_of` (passages by id) is needed for prompts with texts, `query_vectors` (by query id) for the extensions that
    show the LLM the query's vector. Rows of one passage, and rows whose prompt would exceed the prompt builder's
    `max_length`, are left out and counted in `dropped`.
    """

    def __init__(
        self,
        rows: Sequence[RankRow],
        vectors: Vectors,
        prompts: PromptBuilder,
        *,
        text_of: Mapping[str, Passage] | None = None,
        query_vectors: Vectors | None = None,
        steps: int | None = None,
        curriculum: Sequence[Sequence[float]] | None = None,
        group_by_length: int = 1,
        shuffle: bool = True,
        batch_size: int = 4,
        epochs: int = 1,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, epochs=epochs, seed=seed, num_workers=num_workers)
        self.vectors, self.prompts, self.text_of, self.query_vectors = vectors, prompts, text_of, query_vectors
        self.steps, self.shuffle = steps, shuffle
        self.schedule = None if curriculum is None else schedule_of(curriculum)
        if steps is not None and steps < 1:
            raise BadInput(f"{steps} ranks can't be trained", remedy="use 1 or more, or null for all", id="data.steps")
        if group_by_length < 1:
            raise BadInput(f"{group_by_length} steps together", remedy="use 1 or more", id="data.group_by_length")
        lengths = {i: length for i, row in enumerate(rows) if (length := self._length(row)) is not None}
        self.kept = [rows[i] for i in lengths]
        self.dropped = len(rows) - len(self.kept)
        if not self.kept:
            raise BadInput(f"none of the {len(rows)} rows fits the prompt", remedy="raise prompt.max_length")
        self._lengths, self._together = list(lengths.values()), group_by_length
        self._groups: dict[int, LengthGroups] = {}

    @property
    def rows(self) -> int:
        return len(self.kept)

    def _shape(self) -> dict[str, int]:
        return {**super()._shape(), "group_by_length": self._together}

    @property
    def groups(self) -> LengthGroups:
        """The order of rows: steps of all devices are what is grouped, so that two devices read what one would."""
        batch = self.batch_size * (self.trainer.world_size if self.trainer else 1)
        if batch not in self._groups:
            self._groups[batch] = LengthGroups(self._lengths, seed=self.seed, batch=batch, together=self._together)
        return self._groups[batch]

    def example(self, position: int) -> RankExample:
        row, steps = self._taught(position)
        n = len(row.passage_ids)
        shown = shuffled(n, self.seed, position) if self.shuffle else list(range(n))
        place = {candidate: slot for slot, candidate in enumerate(shown)}
        ids = [row.passage_ids[candidate] for candidate in shown]
        return RankExample(
            prompt=self.prompts.rank(row.query.text, n),
            content=self._content(row.query.text, ids),
            vectors_NE=self.vectors.get(ids),
            order=tuple(place[candidate] for candidate in row.order[:steps]),
            query_E=None if self.query_vectors is None else self.query_vectors.get([row.query.id])[0],
        )

    def _taught(self, position: int) -> tuple[RankRow, int | None]:
        """The row at a position, shortened as the curriculum says, and how many of its ranks are trained."""
        row = self.kept[self.groups.row_at(position)]
        if self.schedule is None:
            return row, self.steps
        stage = stage_at(self.schedule, position / (self.rows * self.epochs))
        return shortened(row, stage.candidates, self.seed, position), stage.steps or self.steps

    def collate(self, examples: Sequence[RankExample]) -> RankBatch:
        return rank_batch(examples)

    def _content(self, query: str, ids: Sequence[str]) -> Prompt | None:
        if self.text_of is None:
            return None
        return self.prompts.rank_with_text(query, [self._text(id) for id in ids])

    def _text(self, id: str) -> str:
        assert self.text_of is not None
        try:
            return self.text_of[id].contents
        except KeyError as error:
            remedy = "use the collection that the rows were made from"
            raise BadInput("there is no text for this passage", remedy=remedy, id=id) from error

    def _length(self, row: RankRow) -> int | None:
        """Tokens of the row's prompt; None where it doesn't fit, or there is nothing to rank."""
        try:
            length = len(self.prompts.rank(row.query.text, len(row.passage_ids)))
        except BadInput:
            return None
        return length if len(row.order) > 1 else None


def rank_batch(examples: Sequence[RankExample]) -> RankBatch:
    """Stack examples of any sizes: missing candidates are padded with zero vectors and masked."""
    sizes = [len(example.vectors_NE) for example in examples]
    vectors_BNE = torch.zeros(len(examples), max(sizes), examples[0].vectors_NE.shape[1])
    for b, example in enumerate(examples):
        vectors_BNE[b, : sizes[b]] = torch.from_numpy(np.ascontiguousarray(example.vectors_NE))
    contents = [example.content for example in examples if example.content is not None]
    queries = [torch.from_numpy(example.query_E) for example in examples if example.query_E is not None]
    return RankBatch(
        prompt=PromptBatch.of([example.prompt for example in examples]),
        vectors_BNE=vectors_BNE,
        candidates_BN=torch.arange(max(sizes)) < torch.tensor(sizes)[:, None],
        order_BK=padded([example.order for example in examples], -1),
        query_BE=torch.stack(queries) if queries else None,
        content=PromptBatch.of(contents) if contents else None,
    )
