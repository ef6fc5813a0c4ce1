"""Results come in order and in time, and not more of them are made in advance than asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from perank.model.encoders.prefetch import prefetched


def test_results_are_in_the_order_of_the_items_and_made_in_one_other_thread() -> None:
    found = list(prefetched(lambda item: (item * item, threading.get_ident()), range(50), ahead=3))
    assert [square for square, _ in found] == [item * item for item in range(50)]
    threads = {thread for _, thread in found}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert list(prefetched(str, [])) == []


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_as_many_items_are_taken_in_advance_as_asked_for(ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            taken.append(item)
            yield item

    for number, _ in enumerate(prefetched(str, items(), ahead)):
        assert len(taken) == min(20, number + 1 + ahead)


def test_an_error_comes_in_the_place_of_its_result() -> None:
    results = prefetched(lambda item: 1 // item, [1, 1, 0, 1])
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


def test_closing_leaves_no_thread_and_starts_nothing_more() -> None:
    begun: list[int] = []
    results = prefetched(begun.append, range(100), ahead=5)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
