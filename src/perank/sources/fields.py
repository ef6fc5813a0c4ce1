"""Validation shared by the readers of `perank.sources`; errors name the place and the remedy.

Published files have repeated lines: a line that says again what an earlier one said is read once, and counted.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Container
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from perank.errors import BadInput

log = logging.getLogger(__name__)

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_FLOAT32_MAX = 3.4028234663852886e38


def check_new(id: str, known: Container[str], path: str | Path, line: int) -> None:
    """Raise `BadInput` if `id` is empty or among `known`."""
    if not id.strip():
        raise BadInput("the id is empty", remedy="give every line an id", path=path, line=line)
    if id in known:
        raise BadInput("the id was used before", remedy="keep one of the lines", path=path, line=line, id=id)


def check_new_pair(query_id: str, passage_id: str, known: Container[str], path: str | Path, line: int) -> None:
    """Raise `BadInput` if an id is empty or the query's passage is among `known`."""
    if not query_id.strip() or not passage_id.strip():
        raise BadInput("an id is empty", remedy="fix the line", path=path, line=line)
    if passage_id in known:
        problem = f"the passage occurs twice for query {query_id!r}"
        raise BadInput(problem, remedy="keep one of the lines", path=path, line=line, id=passage_id)


def integer(text: str, what: str, path: str | Path, line: int, id: str) -> int:
    """Parse an integer in ASCII digits; `what` describes it in the `BadInput` raised otherwise."""
    if not _INTEGER.fullmatch(text):
        problem = f"expected an integer {what}, found {text!r}"
        raise BadInput(problem, remedy="fix the line", path=path, line=line, id=id)
    return int(text)


def warn_of_repeats(count: int, path: str | Path) -> None:
    """Log that lines were repeated, if any were."""
    if count:
        log.warning("%s: %d lines repeat an earlier one and are read once", path, count)


def near(id: str, known: Container[str]) -> str | None:
    """Return the id among `known` that `id` may be in another form: Unicode, case, zeros in front, URL encoding."""
    forms = [*(unicodedata.normalize(form, id) for form in ("NFC", "NFD", "NFKC")), id.lower(), id.upper()]
    forms += [id.strip(), id.lstrip("0"), id.removesuffix(".0"), unquote(id)]
    return next((form for form in forms if form != id and form in known), None)


def score(text: str, path: str | Path, line: int, id: str) -> float:
    """Parse a score. Raises `BadInput` if it isn't a finite fp32 number."""
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError as error:
        problem = f"expected a number as score, found {text!r}"
        raise BadInput(problem, remedy="fix the line", path=path, line=line, id=id) from error
    return finite(value, path, line, id)


def finite(value: float, path: str | Path | None, line: int | None, id: str) -> float:
    """Return `value`. Raises `BadInput` if it isn't a finite fp32 number."""
    if not abs(value) <= _FLOAT32_MAX:
        remedy = "give it a finite score, or leave the passage out"
        raise BadInput(f"the score {value} isn't a finite fp32 number", remedy=remedy, path=path, line=line, id=id)
    return value


def text_in(row: dict[str, Any], key: str, path: str | Path, line: int, id: str | None = None) -> str:
    """Return the text under `key` of a JSON object. Raises `BadInput` if it is missing or not valid text."""
    value = row.get(key)
    if not isinstance(value, str):
        found = f"found {type(value).__name__}" if key in row else "found none"
        raise BadInput(f"expected text in {key!r}, {found}", remedy="fix the line", path=path, line=line, id=id)
    try:
        value.encode("utf-8")  # JSON can encode a lone surrogate, which no tokenizer accepts
    except UnicodeEncodeError as error:
        problem = f"{key!r} contains a lone surrogate"
        raise BadInput(problem, remedy="write the text as UTF-8", path=path, line=line, id=id) from error
    return value
