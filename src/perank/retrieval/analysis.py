"""English words as Lucene's EnglishAnalyzer sees them: split, possessives off, lowercased, stop words out, stemmed.

Splitting follows the word boundaries of UAX #29 where they matter for English: an apostrophe, dot or colon between
letters and a comma or dot between digits don't end a word, a hyphen does. Stop words go before stemming.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from perank.errors import BadInput

# Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET
# fmt: off
STOPWORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not",
    "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will",
    "with",
})
# fmt: on

_WORD = re.compile(r"\w+(?:(?<=[^\W\d_])['\u2019.:](?=[^\W\d_])\w+|(?<=\d)['\u2019.,;](?=\d)\w+)*")
_POSSESSIVE = re.compile(r"['\u2019]s$")


class EnglishAnalyzer:
    """Text -> words. `stemmer` is a Snowball algorithm ("porter", "english", ...) or "none".

    Raises `BadInput` for a stemmer that PyStemmer doesn't have.
    """

    def __init__(self, stemmer: str = "porter") -> None:
        self._stem = _stemmer(stemmer)
        self._known: dict[str, str | None] = {}

    def __call__(self, text: str) -> list[str]:
        """The words of `text` in order, repeated ones repeated."""
        words = (self._word(raw) for raw in _WORD.findall(text.lower()))
        return [word for word in words if word is not None]

    def _word(self, raw: str) -> str | None:
        # A corpus repeats its words: each form is stemmed once.
        if raw not in self._known:
            word = _POSSESSIVE.sub("", raw)
            self._known[raw] = None if word in STOPWORDS else self._stem(word)
        return self._known[raw]


def _stemmer(name: str) -> Callable[[str], str]:
    if name == "none":
        return lambda word: word
    import Stemmer

    if name not in Stemmer.algorithms(aliases=True):
        names = ", ".join([*Stemmer.algorithms(), "none"])
        raise BadInput(f"unknown stemmer {name!r}", remedy=f"choose one of {names}")
    return Stemmer.Stemmer(name).stemWord
