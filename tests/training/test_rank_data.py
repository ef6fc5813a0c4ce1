"""Ranking rows as the model sees them: whatever the prompt's order, the teacher's order points at the same passages."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from perank.errors import BadInput
from perank.records import Passage, Query
from perank.training.rank_data import RankData, RankSettings, rank_batch
from perank.training.rows import RankRow
from perank.training.stream import row_at
from support import tiny

IDS = ("otter", "rain", "bread", "planets", "cats")
TEXTS = {passage.id: passage for passage in tiny.PASSAGES}


class Numbered:
    """Vectors that spell which passage (or query) they are: [number, number]."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.number = {id: float(i + 1) for i, id in enumerate(ids)}

    def get(self, ids: Sequence[str]) -> np.ndarray:
        return np.array([[self.number[id]] * 2 for id in ids], dtype=np.float32)

    def ids(self, vectors: Any) -> list[str]:
        names = {number: id for id, number in self.number.items()}
        return [names[float(vector[0])] for vector in vectors]


VECTORS = Numbered(IDS)
ROWS = [
    RankRow(Query("q1", "which otter"), IDS, (4, 2, 0, 1, 3)),
    RankRow(Query("q2", "the rain"), IDS[:3], (1, 0, 2)),
    RankRow(Query("q3", "bread"), IDS[1:], (1, 0, 3, 2)),
]
QUERIES = Numbered([row.query.id for row in ROWS])


def data(rows: Sequence[RankRow] = ROWS, text_of: Any = None, query_vectors: Any = None, **options: Any) -> RankData:
    settings = RankSettings(**{"batch_size": 2, **options})
    return RankData(rows, VECTORS, tiny.tiny_prompts(), settings, text_of=text_of, query_vectors=query_vectors)


def test_the_order_names_the_teachers_passages_whatever_order_the_prompt_shows() -> None:
    module, shown = data(epochs=5), set()
    for position in range(15):
        example = module.example(position)
        row = ROWS[row_at(position, 3, 0)]
        ids = VECTORS.ids(example.vectors_NE)
        assert sorted(ids) == sorted(row.passage_ids)
        assert [ids[place] for place in example.order] == [row.passage_ids[i] for i in row.order]
        assert example.prompt == tiny.tiny_prompts().rank(row.query.text, len(ids))
        shown.add(tuple(ids))
    assert len(shown) > 5  # the prompt's order changes from epoch to epoch


def test_without_shuffling_the_prompt_shows_the_rows_own_order() -> None:
    example = data(ROWS[:1], shuffle=False).example(0)
    assert VECTORS.ids(example.vectors_NE) == list(IDS)
    assert example.order == (4, 2, 0, 1, 3)


def test_prompts_with_texts_show_each_text_behind_its_own_vector() -> None:
    prompts = tiny.tiny_prompts()
    example = data(ROWS[:1], text_of=TEXTS).example(3)
    ids = VECTORS.ids(example.vectors_NE)
    assert example.content == prompts.rank_with_text("which otter", [TEXTS[id].contents for id in ids])


def test_a_title_belongs_to_a_passages_text() -> None:
    words = tiny.tiny_prompts().tokenizer.decode(data(ROWS[:1], text_of=TEXTS).example(0).content.ids)
    assert "bread bread needs flour" in words


def test_the_querys_vector_comes_along_where_it_is_wanted() -> None:
    module = data(query_vectors=QUERIES)
    batch = module.collate([module.example(position) for position in range(3)])
    rows = [ROWS[row_at(position, 3, 0)] for position in range(3)]
    assert QUERIES.ids(batch.query_BE) == [row.query.id for row in rows]
    assert data().collate([data().example(0)]).query_BE is None


def test_only_the_first_ranks_are_trained_if_asked() -> None:
    assert [len(data(steps=2).example(position).order) for position in range(3)] == [2, 2, 2]
    with pytest.raises(BadInput, match="steps is 0"):
        data(steps=0)


def test_two_devices_read_the_rows_that_one_with_twice_the_batch_reads() -> None:
    rows = [RankRow(Query(f"q{i}", "otter " * (1 + i % 5)), IDS[:3], (1, 0, 2)) for i in range(24)]
    one, two = data(rows, batch_size=4, group_by_length=3), data(rows, batch_size=2, group_by_length=3)
    two.trainer = SimpleNamespace(world_size=2)  # type: ignore[assignment]
    assert [one.groups.row_at(i) for i in range(24)] == [two.groups.row_at(i) for i in range(24)] != list(range(24))


def test_rows_grouped_in_another_way_are_another_stream() -> None:
    with pytest.raises(BadInput, match="group_by_length 2, this run has 1"):
        data(epochs=4).load_state_dict(data(epochs=4, group_by_length=2).state_dict())


def test_a_batch_pads_short_rows_with_zeros_that_are_no_candidates() -> None:
    module = data(shuffle=False, text_of=TEXTS)
    examples = [module.example(position) for position in range(3)]
    batch = rank_batch(examples)
    for b, example in enumerate(examples):
        n = len(example.vectors_NE)
        assert batch.candidates_BN[b].tolist() == [True] * n + [False] * (5 - n)
        assert torch.equal(batch.vectors_BNE[b, :n], torch.from_numpy(example.vectors_NE))
        assert not batch.vectors_BNE[b, n:].any()
        assert batch.order_BK[b].tolist() == [*example.order, *[-1] * (5 - n)]
        assert batch.prompt.ids_BL[b, : len(example.prompt)].tolist() == list(example.prompt.ids)
        assert batch.prompt.length_B[b] == len(example.prompt)
        assert batch.prompt.slots_BN[b].tolist() == [*example.prompt.slots, *[-1] * (5 - n)]
        assert batch.content is not None
        assert batch.content.length_B[b] == len(example.content)


def test_rows_that_do_not_fit_the_prompt_and_rows_of_one_passage_are_left_out_and_counted() -> None:
    long = RankRow(Query("q4", "otter " * 500), IDS, (0, 1, 2, 3, 4))
    single = RankRow(Query("q5", "otter"), ("otter",), (0,))
    module = RankData([ROWS[0], long, single], VECTORS, tiny.tiny_prompts(max_length=100), RankSettings())
    assert (module.kept, module.dropped, module.rows) == ([ROWS[0]], 2, 1)


def test_no_row_that_fits_is_an_error_that_says_what_to_raise() -> None:
    with pytest.raises(BadInput, match=r"none of the 3 rows.*prompt\.max_length"):
        RankData(ROWS, VECTORS, tiny.tiny_prompts(max_length=5), RankSettings())


def test_a_passage_without_a_text_is_an_error_not_an_empty_text() -> None:
    module = data(ROWS[:1], text_of={"otter": Passage("otter", "a sea otter")})
    with pytest.raises(BadInput, match="no text"):
        module.example(0)


def test_a_curriculum_shows_few_candidates_first_and_trains_fewer_ranks() -> None:
    module = data(epochs=4, curriculum=[[0, 2, 1], [0.5, 4]])
    sizes = [len(module.example(position).vectors_NE) for position in range(12)]
    rows = [ROWS[row_at(position, 3, 0)] for position in range(12)]
    assert sizes == [min(len(row.passage_ids), 2 if i < 6 else 4) for i, row in enumerate(rows)]
    for position in range(6):
        example, row = module.example(position), rows[position]
        ids = VECTORS.ids(example.vectors_NE)
        assert [ids[place] for place in example.order] == [row.passage_ids[row.order[0]]]
        assert example.prompt == tiny.tiny_prompts().rank(row.query.text, 2)
