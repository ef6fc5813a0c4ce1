"""Words of any script, for BM25: a language that writes no blanks between words is indexed by pairs of characters.

As in Lucene's CJKAnalyzer, runs of Chinese, Japanese and Korean characters (and of Thai, Lao, Khmer and Burmese) become
overlapping bigrams. In all other scripts a word includes its combining marks, while Python's `\\w` tears the vowel
signs of Hindi, Bengali or Tamil off their consonants.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

# Scripts without blanks between words: Thai, Lao, Burmese, Hangul Jamo, Khmer, kana, Han, Hangul, and their extensions.
_WITHOUT_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003134f"
)
_RUN = re.compile(f"[{_WITHOUT_BLANKS}]+")
_JOINERS = "\u200c\u200d"  # inside words of Persian and of Indic scripts


class MultilingualAnalyzer:
    """Split a text into words or, in scripts without blanks, pairs of characters; `stem` is applied to the words."""

    def __init__(self, stem: Callable[[str], str] = lambda word: word) -> None:
        self._stem = cache(stem)

    def __call__(self, text: str) -> list[str]:
        """Return the words of `text` in order, with repetitions."""
        plain = unicodedata.normalize("NFKC", text).casefold()
        return [piece for word in _words().findall(plain) for piece in self._pieces(word)]

    def _pieces(self, word: str) -> Iterator[str]:
        start = 0
        for match in _RUN.finditer(word):
            yield from self._word(word[start : match.start()])
            run, start = match[0], match.end()
            yield from (run[i : i + 2] for i in range(max(1, len(run) - 1)))
        yield from self._word(word[start:])

    def _word(self, text: str) -> Iterator[str]:
        if text:
            yield self._stem(text)


@cache
def _words() -> re.Pattern[str]:
    """Letters, digits and underscores with the combining marks of any script."""
    marks = "".join(chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("M"))
    return re.compile(f"[\\w{marks}{_JOINERS}]+")
