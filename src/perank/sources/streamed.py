"""A mapping of passages that are looked up one by one but stream in the source's order."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView

from perank.records import Passage


class StreamedPassages(Mapping[str, Passage]):
    """Subclasses define `__getitem__`, `__len__` and `stream`; iteration, `items` and `values` use `stream`."""

    def stream(self) -> Iterator[Passage]:
        """Yield all passages."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return (passage.id for passage in self.stream())

    def items(self) -> ItemsView[str, Passage]:
        return _Items(self)

    def values(self) -> ValuesView[Passage]:
        return _Values(self)


class _Items(ItemsView[str, Passage]):
    _mapping: StreamedPassages

    def __iter__(self) -> Iterator[tuple[str, Passage]]:
        return ((passage.id, passage) for passage in self._mapping.stream())


class _Values(ValuesView[Passage]):
    _mapping: StreamedPassages

    def __iter__(self) -> Iterator[Passage]:
        return self._mapping.stream()
