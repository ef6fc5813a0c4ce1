"""The order of rows is a pure function of seed and position: whoever computes a part of it gets the same part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perank.training.rows import shuffled
from perank.training.stream import LengthGroups, RowStream, row_at

SMALL = st.integers(1, 12)


@given(rows=SMALL, epochs=st.integers(1, 4), seed=st.integers(0, 5))
def test_every_epoch_shows_every_row_once(rows: int, epochs: int, seed: int) -> None:
    for epoch in range(epochs):
        shown = [row_at(epoch * rows + offset, rows, seed) for offset in range(rows)]
        assert sorted(shown) == list(range(rows))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def epoch(number: int, seed: int) -> list[int]:
        return [row_at(number * 50 + offset, 50, seed) for offset in range(50)]

    orders = [epoch(0, 0), epoch(1, 0), epoch(0, 1), list(range(50))]
    assert all(one != other for i, one in enumerate(orders) for other in orders[:i])
    assert epoch(1, 0) == epoch(1, 0)


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=70), batch=SMALL, together=st.integers(1, 5))
def test_rows_grouped_by_length_are_each_shown_once_an_epoch(lengths: list[int], batch: int, together: int) -> None:
    groups, rows = LengthGroups(lengths, seed=1, batch=batch, together=together), len(lengths)
    for epoch in (0, 1, 0):
        assert sorted(groups.row_at(epoch * rows + offset) for offset in range(rows)) == list(range(rows))


@given(rows=st.integers(1, 60), batch=SMALL)
def test_one_step_together_leaves_the_order_of_batches_as_it_comes(rows: int, batch: int) -> None:
    groups = LengthGroups([(7 * row) % 5 for row in range(rows)], seed=2, batch=batch, together=1)
    assert [groups.row_at(position) for position in range(2 * rows)] == [row_at(p, rows, 2) for p in range(2 * rows)]


def test_steps_that_share_out_their_rows_by_length_hold_less_padding() -> None:
    lengths = [(number * 37) % 50 + 1 for number in range(320)]

    def padding(together: int) -> int:
        groups = LengthGroups(lengths, seed=0, batch=8, together=together)
        batches = [[lengths[groups.row_at(start + i)] for i in range(8)] for start in range(0, 320, 8)]
        return sum(8 * max(batch) - sum(batch) for batch in batches)

    assert padding(20) < 0.2 * padding(1)


@given(n=st.integers(0, 20), seed=st.integers(0, 3), position=st.integers(0, 1000))
def test_a_prompts_order_is_a_permutation_that_seed_and_position_fix(n: int, seed: int, position: int) -> None:
    assert sorted(shuffled(n, seed, position)) == list(range(n))
    assert shuffled(n, seed, position) == shuffled(n, seed, position)


def test_prompt_orders_change_from_row_to_row() -> None:
    assert len({tuple(shuffled(20, 0, position)) for position in range(100)}) == 100


@given(rows=st.integers(0, 40), epochs=SMALL, batch=SMALL, world=st.integers(1, 4), steps=st.integers(0, 5))
def test_devices_together_read_every_whole_step_once_and_in_order(
    rows: int, epochs: int, batch: int, world: int, steps: int
) -> None:
    step = batch * world
    streams = [RowStream(rows, epochs=epochs, batch_size=batch, rank=rank, world=world) for rank in range(world)]
    for stream in streams:
        stream.start = steps * step
    parts = [list(stream) for stream in streams]
    total = rows * epochs // step * step
    assert all(len(stream) == total // world for stream in streams)
    joined = [
        position
        for s in range(len(parts[0]) // batch)
        for part in parts
        for position in part[s * batch : (s + 1) * batch]
    ]
    assert joined == list(range(steps * step, total))


@given(rows=st.integers(8, 60), batch=st.sampled_from([2, 4, 8]))
def test_two_devices_take_the_same_rows_a_step_as_one_with_twice_the_batch(rows: int, batch: int) -> None:
    alone = list(RowStream(rows, epochs=1, batch_size=2 * batch))
    halves = [list(RowStream(rows, epochs=1, batch_size=batch, rank=rank, world=2)) for rank in (0, 1)]
    for step in range(len(alone) // (2 * batch)):
        together = [p for half in halves for p in half[step * batch : (step + 1) * batch]]
        assert together == alone[2 * step * batch : 2 * (step + 1) * batch]
