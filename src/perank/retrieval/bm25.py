"""BM25 as Lucene scores it (k1 0.9, b 0.4 are Anserini's defaults), the first stage of the paper's tables.

The index is bm25s', the analysis that of Lucene's EnglishAnalyzer. Unusual: only passages that share a word with the
query are returned, so a query may have fewer results than requested, or none; ties at the cutoff are broken by id, as
in trec_eval.

`EnglishAnalyzer` splits, removes possessives, lowercases, removes stop words, and stems. Splitting follows the word
boundaries of UAX #29 where they matter for English: an apostrophe, dot or colon between letters and a comma or dot
between digits don't end a word, a hyphen does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from perank.errors import BadInput
from perank.records import Collection, Passage, Query, Run, rank_order
from perank.retrieval.multilingual import MultilingualAnalyzer
from perank.retrieval.request import check_request

log = logging.getLogger(__name__)

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
    """Split a text into words. `stemmer` is a Snowball algorithm ("porter", "english", ...) or "none".

    Raises `BadInput` for an unknown stemmer.
    """

    def __init__(self, stemmer: str = "porter") -> None:
        self._stem = _stemmer(stemmer)
        self._known: dict[str, str | None] = {}

    def __call__(self, text: str) -> list[str]:
        """Return the words of `text` in order, with repetitions."""
        words = (self._word(raw) for raw in _WORD.findall(text.lower()))
        return [word for word in words if word is not None]

    def _word(self, raw: str) -> str | None:
        # A corpus repeats its words, so each form is stemmed once.
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


def _analyzer(name: str, stemmer: str) -> Callable[[str], list[str]]:
    match name:
        case "english":
            return EnglishAnalyzer(stemmer)
        case "multilingual":
            return MultilingualAnalyzer(_stemmer(stemmer))
    raise BadInput(f"unknown analyzer {name!r}", remedy="choose english or multilingual")


class Bm25:
    """First-stage retrieval over a collection's passages (title and text).

    `analyzer` is "english" (Lucene's EnglishAnalyzer) or "multilingual", for texts in other scripts. The index of the
    last searched corpus stays in memory. Raises `BadInput` for `k1` below 0, `b` outside [0, 1], and an unknown
    `stemmer` or `analyzer`.
    """

    def __init__(
        self,
        k1: float = 0.9,
        b: float = 0.4,
        stemmer: str = "porter",
        depth: int = 100,
        *,
        analyzer: str = "english",
        progress: bool = False,
    ) -> None:
        if not (k1 >= 0 and 0 <= b <= 1):
            raise BadInput(f"expected k1 >= 0 and b in [0, 1], found k1={k1}, b={b}", remedy="change k1 or b")
        self.k1, self.b, self.stemmer, self.depth, self.progress = k1, b, stemmer, depth, progress
        if analyzer != "english":  # the fingerprints of rows that were drawn before have no such setting
            self.analyzer = analyzer
        self._analyze = _analyzer(analyzer, stemmer)
        self._corpus: Mapping[str, Passage] | None = None
        self._ids: list[str] = []
        self._index: Any = None

    def search(self, collection: Collection, queries: Sequence[Query] | None = None, depth: int | None = None) -> Run:
        """Return up to `depth` passages with scores above 0 per query id, best first; every query has an entry.

        Searches all queries of the collection unless `queries` is given. Raises `BadInput` for a depth below 1, a
        duplicate query, and a corpus without passages.
        """
        from tqdm import tqdm

        asked = list(collection.queries.values()) if queries is None else queries
        depth = check_request(asked, self.depth if depth is None else depth)
        self._use(collection)
        run = {query.id: self._best(query, depth) for query in tqdm(asked, "bm25", disable=not self.progress)}
        self._warn_if_most_find_nothing(run, collection.name)
        return run

    def _warn_if_most_find_nothing(self, run: Run, name: str) -> None:
        nothing = [id for id, scores in run.items() if not scores]
        if 2 * len(nothing) > len(run):
            log.warning(
                "%d of %d queries share no word with any passage of %s, for example %s; for scripts other than the "
                "Latin one use the setting analyzer=multilingual of Bm25", len(nothing), len(run), name, nothing[0]
            )  # fmt: skip

    def _best(self, query: Query, depth: int) -> dict[str, float]:
        words = [word for word in self._analyze(query.text) if word in self._index.vocab_dict]
        if not words:
            return {}
        scores_N = self._index.get_scores(words)
        found = np.flatnonzero(scores_N > 0)
        if len(found) > depth:  # keep all ties with the last one; ids break them below
            found = found[scores_N[found] >= np.partition(scores_N[found], -depth)[-depth]]
        scores = {self._ids[i]: float(scores_N[i]) for i in found}
        return {id: scores[id] for id in rank_order(scores)[:depth]}

    def _use(self, collection: Collection) -> None:
        passages = collection.passages
        if passages is self._corpus:
            return
        if not len(passages):
            raise BadInput("the collection has no passages", remedy="check its source", id=collection.name)
        self._ids, self._index = self._build(passages)
        self._corpus = passages

    def _build(self, passages: Mapping[str, Passage]) -> tuple[list[str], Any]:
        import bm25s
        from tqdm import tqdm

        logging.getLogger("bm25s").setLevel(logging.INFO)  # it sets DEBUG, which floods the console
        ids: list[str] = []
        vocabulary: dict[str, int] = {}
        words_NT: list[list[int]] = []
        for id, passage in tqdm(passages.items(), "bm25 index", disable=not self.progress):
            ids.append(id)
            words_NT.append([vocabulary.setdefault(word, len(vocabulary)) for word in self._analyze(passage.contents)])
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        if vocabulary:
            index.index((words_NT, vocabulary), create_empty_token=False, show_progress=False)
        else:
            index.vocab_dict = {}
        return ids, index
