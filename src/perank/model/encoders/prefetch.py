"""Work ahead in a thread: the next inputs of a model are made while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")


def prefetched(make: Callable[[T], S], items: Iterable[T], ahead: int = 2) -> Iterator[S]:
    """Yield `make(item)` in the order of `items`, which one thread calculates up to `ahead` results in advance.

    An exception is raised where its result would be; closing the iterator waits for the running call only.
    """
    pool, pending = ThreadPoolExecutor(1, "prefetch"), deque[Future[S]]()
    try:
        for item in items:
            pending.append(pool.submit(make, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
