"""Data of stage 2: rows with the teacher's order as `RankBatch`; passage vectors come from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from perank.errors import BadInput, check_least
from perank.model import AnchorSettings, Origin, Prompt, PromptBatch, PromptBuilder, RankBatch, padded
from perank.records import Passage, Vectors
from perank.training.curriculum import schedule_of, shortened, stage_at
from perank.training.rows import RankRow, check_ranks, passages_of, shuffled
from perank.training.stream import GroupedSettings, GroupedStream


@dataclass(frozen=True, slots=True)
class RankExample:
    """One row in prompt order; `order` holds the positions of the first K ranks.

    `ranks` are the passages' ranks in the first stage, `first_E` the sum of its best passages' vectors.
    """

    prompt: Prompt
    content: Prompt | None
    vectors_NE: np.ndarray
    order: tuple[int, ...]
    query_E: np.ndarray | None
    ranks: tuple[int, ...] | None = None
    first_E: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class RankSettings(GroupedSettings):
    """How rows are shown. Without `shuffle`, a prompt keeps the row's own order.

    `steps` trains only the first K ranks (None: all); `curriculum` shows early rows with fewer candidates, see
    `schedule_of`. `anchors` are those that use the first stage; None: rows need no ranks in it.
    """

    batch_size: int = 4
    steps: int | None = None
    curriculum: Sequence[Sequence[float]] | None = None
    shuffle: bool = True
    anchors: AnchorSettings | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("data", 1, steps=self.steps)


class RankData(GroupedStream):
    """Batches of prompts built from rows.

    `text_of` (passages by id) is needed for prompts with texts, `query_vectors` (by query id) for the extensions that
    use the query's vector. Rows with one passage, and rows whose prompt exceeds the prompt builder's `max_length`, are
    skipped and counted in `dropped`. Raises `BadInput` for rows without ranks if `settings.anchors` need them.
    """

    def __init__(
        self,
        rows: Sequence[RankRow],
        vectors: Vectors,
        prompts: PromptBuilder,
        settings: RankSettings,
        *,
        text_of: Mapping[str, Passage] | None = None,
        query_vectors: Vectors | None = None,
    ) -> None:
        super().__init__(settings)
        self.vectors, self.prompts, self.text_of, self.query_vectors = vectors, prompts, text_of, query_vectors
        self.settings = settings
        if settings.anchors is not None:
            check_ranks(rows)
        self.schedule = None if settings.curriculum is None else schedule_of(settings.curriculum)
        self.keep_measured(rows, self._length, f"none of the {len(rows)} rows fits the prompt")

    def example(self, position: int) -> RankExample:
        row, steps = self._trained_part(position)
        if self.settings.shuffle:
            row = row.shown(shuffled(len(row.order), self.seed, position))
        query_E = None if self.query_vectors is None else self.query_vectors.get([row.query.id])[0]
        return RankExample(
            prompt=self.prompts.rank(row.query.text, len(row.order)),
            content=self._content(row),
            vectors_NE=self.vectors.get(row.passage_ids),
            order=row.order[:steps],
            query_E=query_E,
            ranks=row.ranks,
            first_E=None if (anchors := self.settings.anchors) is None else self._first(row, query_E, anchors),
        )

    def _first(self, row: RankRow, query_E: np.ndarray | None, anchors: AnchorSettings) -> np.ndarray:
        best = row.best(anchors.first)
        vectors_XE = torch.from_numpy(self.vectors.get(list(best)))
        known_E = None if query_E is None else torch.from_numpy(query_E)
        return anchors.first_sum(vectors_XE, torch.tensor(list(best.values())), known_E).numpy()

    def _trained_part(self, position: int) -> tuple[RankRow, int | None]:
        """Return the row at a position, shortened by the curriculum, and how many of its ranks are trained."""
        row = self.kept[self.groups.row_at(position)]
        if self.schedule is None:
            return row, self.settings.steps
        stage = stage_at(self.schedule, position / (self.rows * self.epochs))
        return shortened(row, stage.candidates, self.seed, position), stage.steps or self.settings.steps

    def collate(self, examples: Sequence[RankExample]) -> RankBatch:
        return rank_batch(examples)

    def _content(self, row: RankRow) -> Prompt | None:
        if self.text_of is None:
            return None
        texts = [passage.contents for passage in passages_of(self.text_of, row.passage_ids)]
        return self.prompts.rank_with_text(row.query.text, texts)

    def _length(self, row: RankRow) -> int | None:
        """Tokens of the row's prompt; None if it doesn't fit or the row has one passage."""
        try:
            length = len(self.prompts.rank(row.query.text, len(row.passage_ids)))
        except BadInput:
            return None
        return length if len(row.order) > 1 else None


def rank_batch(examples: Sequence[RankExample]) -> RankBatch:
    """Batch examples of any sizes: missing candidates are zero vectors and masked."""
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
        origin=_origin(examples),
    )


def _origin(examples: Sequence[RankExample]) -> Origin | None:
    ranks = [example.ranks for example in examples if example.ranks is not None]
    first = [example.first_E for example in examples if example.first_E is not None]
    return Origin(padded(ranks, 0), torch.from_numpy(np.stack(first))[:, None]) if ranks and first else None
