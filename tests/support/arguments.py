"""Whatever callers pass to `Reranker.rank`: strategies for hypothesis, good and bad values mixed."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from perank.records import Passage, Query
from support import tiny

_WORDS = st.lists(st.sampled_from(tiny.WORDS), max_size=4).map(" ".join)
_TEXTS = _WORDS | st.text(st.characters(), max_size=12)  # surrogates, controls, astral characters included
_NUMBERS = st.integers() | st.floats() | st.booleans() | st.integers(-2, 9).map(np.int64)
_ODD: st.SearchStrategy[Any] = (
    st.none() | _NUMBERS | st.binary(max_size=4) | st.tuples(_TEXTS, _TEXTS) | st.just(object())
    | st.lists(_TEXTS, max_size=2) | st.frozensets(_TEXTS, max_size=2)
)  # fmt: skip
_DICTS = st.fixed_dictionaries({"text": _TEXTS}, optional={"id": _TEXTS | _ODD, "title": _TEXTS | _ODD, "url": _ODD})
_PASSAGES = st.builds(Passage, _TEXTS, _TEXTS, _TEXTS) | st.builds(Passage, _TEXTS | _ODD, _TEXTS | _ODD, _TEXTS | _ODD)
_ELEMENTS = st.one_of(_TEXTS, _TEXTS, _DICTS, _PASSAGES, st.dictionaries(_TEXTS, _ODD | _TEXTS, max_size=2), _ODD)
_LISTS = st.lists(_TEXTS | _DICTS, max_size=7) | st.lists(_ELEMENTS, max_size=7)

QUERIES = st.one_of(_TEXTS, _WORDS, st.builds(Query, _TEXTS, _TEXTS), _ODD)
DOCUMENTS: st.SearchStrategy[Any] = st.one_of(
    _LISTS, _LISTS, _LISTS.map(tuple), _LISTS.map(iter), _TEXTS.map(lambda text: np.array([text, "rain"])),
    _TEXTS, _ODD, _DICTS,
)  # fmt: skip
_ROWS = st.integers(0, 7).map(lambda n: tiny.unit_vectors(n, 8, seed=n))
_NOISE = st.lists(st.lists(st.one_of(st.floats(), st.none(), _TEXTS, st.integers()), max_size=9), max_size=5)
VECTORS: st.SearchStrategy[Any] = st.one_of(
    st.none(), _ROWS, _ROWS.map(lambda rows: rows.numpy()), _ROWS.map(lambda rows: rows.tolist()), _NOISE,
    _ROWS.map(lambda rows: [*rows]), _ROWS.map(iter), _ROWS.map(lambda rows: rows.to_sparse()),
    _ROWS.map(lambda rows: rows + 0j), _TEXTS, _ODD,
)  # fmt: skip
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "passage_embeddings": VECTORS,
        "query_embedding": st.one_of(_ROWS.map(lambda rows: rows[:1].flatten()), VECTORS),
        "top_k": st.one_of(st.none(), st.integers(-1, 9), _NUMBERS, _TEXTS, _ODD),
    },
)
