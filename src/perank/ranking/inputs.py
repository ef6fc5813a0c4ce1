"""Read what callers pass to `Reranker`: texts, dicts, `Passage`s, numbers; all of it is checked before any encoding."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from perank.errors import BadInput
from perank.records import Candidates, Passage, Query

_REMEDY = 'give a list of texts, of dicts with a "text", or of Passages'


def read_query(query: Any) -> Query:
    """Return a text or a `Query` as a `Query`. Raises what `check_query` raises."""
    return check_query(query if isinstance(query, Query) else Query("", query))


def check_query(query: Query) -> Query:
    """Return `query`. Raises `BadInput` if its text is no text, blank, or has half a surrogate pair."""
    _check_text(query.text, "the query", remedy="give it as a text", id=query.id)
    if not query.text.strip():
        raise BadInput("the query is empty", remedy="give it a text", id=query.id)
    return query


def read_documents(documents: Any, *, texts: bool = True) -> tuple[tuple[Any, ...], tuple[Passage, ...]]:
    """Return the caller's documents, and each as a `Passage`; the id of one without an id is its position.

    A document is a text, a `Passage`, or a mapping with "text" and perhaps "id" and "title", whose other keys are
    ignored. Without `texts` (vectors are known) mappings need no "text". Raises `BadInput` with the position of
    anything else, and for what isn't a list of documents: one bare text, a mapping, a set (which has no order).
    """
    if isinstance(documents, str | bytes | bytearray | Mapping | Passage | set | frozenset):
        problem = f"expected passages in order, found one {type(documents).__name__}: {reprlib.repr(documents)}"
        raise BadInput(problem, remedy=_REMEDY)
    if hasattr(documents, "to_dict") and hasattr(documents, "columns"):  # a data frame iterates over its columns' names
        raise BadInput(f"expected passages, found a {type(documents).__name__}", remedy='give .to_dict("records")')
    try:
        iterator = iter(documents)
    except TypeError as error:
        problem = f"expected passages, found {type(documents).__name__} {reprlib.repr(documents)}"
        raise BadInput(problem, remedy=_REMEDY) from error
    given = tuple(iterator)
    return given, tuple(_passage(document, position, texts) for position, document in enumerate(given))


def read_batch(batch: Any) -> list[Candidates]:
    """Return an iterable of `Candidates` as a list. Raises `BadInput` with the position of anything unusable in it."""
    if not isinstance(batch, Iterable):
        problem = f"expected a list of Candidates, found {type(batch).__name__}"
        raise BadInput(problem, remedy="give a list of perank.records.Candidates")
    found = list(batch)
    for number, candidates in enumerate(found):
        if not isinstance(candidates, Candidates):
            problem = f"number {number} (from 0) of the batch is {reprlib.repr(candidates)}, expected Candidates"
            raise BadInput(problem, remedy="give a list of perank.records.Candidates, or call rank")
        check_query(candidates.query)
        for position, passage in enumerate(candidates.passages):
            if not isinstance(passage, Passage):
                _refuse(passage, f"passage number {position} (from 0)", "a Passage", id=candidates.query.id)
            _check_passage(passage, position)
    return found


def whole_number(value: Any, name: str, *, least: int | None = None) -> int:
    """Return an integer of any kind as an int. Raises `BadInput` for booleans, floats and texts, and below `least`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        expected = "a whole number" + ("" if least is None else f" from {least} on")
        raise BadInput(f"{name} is {reprlib.repr(value)}, expected {expected}", remedy="give a whole number")
    return number


def _passage(document: Any, position: int, texts: bool) -> Passage:
    if isinstance(document, Passage):
        return _check_passage(document, position)
    if isinstance(document, str):
        return _check_passage(Passage(str(position), str(document)), position)
    place = f"passage number {position} (from 0)"
    if not isinstance(document, Mapping):
        _refuse(document, place, 'a text, a dict with a "text", or a Passage')
    if "text" not in document and texts:
        problem = f'{place} has no "text", but {reprlib.repr(sorted(map(str, document)))}'
        raise BadInput(problem, remedy='put its text under "text"')
    id, title = document.get("id"), document.get("title")
    if id is not None and not isinstance(id, str):
        id = str(whole_number(id, f"the id of {place}"))
    named = str(position) if id is None else id
    return _check_passage(Passage(named, document.get("text", ""), "" if title is None else title), position)


def _check_passage(passage: Passage, position: int) -> Passage:
    place = f"passage number {position} (from 0)"
    if not isinstance(passage.id, str):
        _refuse(passage.id, f"the id of {place}", "a text", remedy="give ids as texts")
    for of, text in (("", passage.text), ("the title of ", passage.title)):
        _check_text(text, of + place, remedy="give every passage a text, perhaps an empty one", id=passage.id)
    return passage


def _check_text(text: Any, what: str, *, remedy: str, id: str | None) -> None:
    if not isinstance(text, str):
        _refuse(text, what, "a text", id=id, remedy=remedy)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            problem = f"{what} has half a surrogate pair at character {error.start}"
            remedy = 'repair it: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
            raise BadInput(problem, remedy=remedy, id=id) from error


def _refuse(value: Any, what: str, expected: str, *, remedy: str = _REMEDY, id: str | None = None) -> NoReturn:
    problem = f"{what} is {reprlib.repr(value)} of type {type(value).__name__}, expected {expected}"
    raise BadInput(problem, remedy=remedy, id=id)
