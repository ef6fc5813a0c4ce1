"""What callers pass to `Reranker`: used as it is meant, or refused with its position before anything is encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings

from perank import Reranker
from perank.errors import BadInput
from perank.ranking.windows import Windows
from perank.records import Candidates, Passage, Query
from support import arguments, tiny


class Counting:
    """An encoder that remembers what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
        self.seen += texts
        return torch.stack([tiny.unit_vectors(8, seed=sum(map(ord, text))) for text in texts])

    encode_queries = encode_passages


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    return Reranker(tiny.tiny_model(5), tiny.tiny_prompts(), Counting())


TEXTS = ["a sea", "the rain", "bread"]
WITH_IDS = [{"id": 7, "text": "a sea", "url": "x"}, {"text": "the rain", "title": None}, Passage("p", "bread")]


@pytest.mark.parametrize(
    "documents",
    [
        tuple(TEXTS),
        (text for text in TEXTS),
        dict.fromkeys(TEXTS).keys(),
        np.array(TEXTS),
        pd.Series(TEXTS, index=[5, 6, 7]),
        [{"text": text} for text in TEXTS],
        pd.DataFrame({"text": TEXTS, "url": "x"}).to_dict("records"),
        [Passage(str(i), text) for i, text in enumerate(TEXTS)],
    ],
    ids=lambda documents: type(documents).__name__,
)
def test_every_iterable_of_texts_dicts_and_passages_gives_the_same_ranking(reranker: Reranker, documents: Any) -> None:
    expected = reranker.rank("sea", TEXTS)
    found = reranker.rank(Query("", "sea"), documents)
    assert (found.order, found.passage_ids, found.candidates) == (
        expected.order,
        expected.passage_ids,
        expected.candidates,
    )


def test_dicts_keep_their_ids_and_come_back_whole(reranker: Reranker) -> None:
    ranking = reranker.rank("sea", WITH_IDS)
    assert [passage.id for passage in ranking.candidates.passages] == ["7", "1", "p"]
    assert [id(document) for document in ranking.documents] == [id(WITH_IDS[i]) for i in ranking.order]
    assert reranker.rank("sea", iter(TEXTS)).documents == [TEXTS[i] for i in reranker.rank("sea", TEXTS).order]
    assert reranker.rank_batch([tiny.FIVE])[0].documents == reranker.rank_batch([tiny.FIVE])[0].passages


def test_titles_are_read_as_those_of_passages(reranker: Reranker) -> None:
    titled = reranker.rank("sea", [{"text": "b", "title": "a"}, "c"]).candidates.passages
    assert titled == (Passage("0", "b", "a"), Passage("1", "c"))


def test_dicts_need_no_text_where_their_vectors_are_known(reranker: Reranker) -> None:
    ids = [{"id": "x"}, {"id": "y"}]
    assert sorted(reranker.rank("sea", ids, passage_embeddings=tiny.unit_vectors(2, 8)).passage_ids) == ["x", "y"]
    with pytest.raises(BadInput, match=r'number 0 \(from 0\) has no "text"'):
        reranker.rank("sea", ids)


@pytest.mark.parametrize(
    ("documents", "named"),
    [
        (["a", None], r"number 1 \(from 0\) is None"),
        (["a", float("nan")], r"number 1 \(from 0\) is nan"),
        (pd.Series(["a", None, "b"]), r"number 1 \(from 0\) is (None|nan)"),
        (["a", "b", "x\ud83d"], r"number 2 \(from 0\) has half a surrogate pair at character 1"),
        ([Passage("p", "b", "\udc00")], r"id 'p': the title of passage number 0"),
        ([("d1", "a")], r"number 0 \(from 0\) is \('d1', 'a'\)"),
        ([b"a"], "of type bytes"),
        ([True], "of type bool"),
        ([{"text": None}], r"number 0 \(from 0\) is None"),
        ([{"body": "a"}], r"has no \"text\", but \['body'\]"),
        ([{"text": "a", "id": 1.5}], r"the id of passage number 0 \(from 0\) is 1.5"),
        ([{"text": "a", "title": 3}], r"the title of passage number 0 \(from 0\) is 3"),
        ([Passage("p", None)], r"id 'p': passage number 0"),  # type: ignore[arg-type]
        ([Passage(3, "a")], r"the id of passage number 0"),  # type: ignore[arg-type]
        ([Passage("p", "a", None)], r"the title of passage number 0"),  # type: ignore[arg-type]
        ("a sea", "found one str"),
        (b"a sea", "found one bytes"),
        ({"text": "a"}, "found one dict"),
        ({"a", "b"}, "found one set"),
        (Passage("p", "a"), "found one Passage"),
        (pd.DataFrame({"text": ["a"]}), "found a DataFrame"),
        (5, "found int 5"),
        (np.array(5), "found ndarray"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_passages_is_refused_with_its_position(
    reranker: Reranker, documents: Any, named: str
) -> None:
    before = len(reranker.encoder.seen)
    with pytest.raises(BadInput, match=named):
        reranker.rank("sea", documents)
    assert len(reranker.encoder.seen) == before


@pytest.mark.parametrize("query", [None, 5, ["sea"], "", " ", "x\ud83d", b"sea", Query("q", "\n")], ids=repr)
def test_what_is_no_query_is_refused(reranker: Reranker, query: Any) -> None:
    with pytest.raises(BadInput, match="the query"):
        reranker.rank(query, TEXTS)


@pytest.mark.parametrize("top_k", ["2", 2.5, 2.0, True, np.bool_(True), float("nan"), [2], 0, -1], ids=repr)
def test_top_k_is_a_whole_number_from_one_on(reranker: Reranker, top_k: Any) -> None:
    before = len(reranker.encoder.seen)
    with pytest.raises(BadInput, match=r"top_k is|a cutoff of"):
        reranker.rank("sea", TEXTS, top_k=top_k)
    assert len(reranker.encoder.seen) == before
    assert reranker.rank("sea", TEXTS, top_k=np.int64(2)).order[0] == reranker.rank("sea", TEXTS).order[0]


@pytest.mark.parametrize(
    "vectors",
    [
        [[10**400] * 8],
        torch.eye(8).to_sparse(),
        torch.eye(8, device="meta"),
        np.eye(8) * 1j,
        torch.eye(8) + 0j,
        {},
        "ab",
    ],
    ids=lambda value: type(value).__name__,
)
def test_vectors_of_other_kinds_of_numbers_are_refused(reranker: Reranker, vectors: Any) -> None:
    with pytest.raises(BadInput, match="passage vectors"):
        reranker.rank("sea", passage_embeddings=vectors)


def test_vectors_that_need_a_gradient_or_come_one_by_one_are_vectors(reranker: Reranker) -> None:
    rows = torch.eye(8)
    expected = reranker.rank("sea", passage_embeddings=rows).order
    for vectors in (list(rows.clone().requires_grad_()), iter(rows), rows.long(), rows.double().numpy()):
        assert (
            reranker.rank("sea", passage_embeddings=vectors, query_embedding=rows[0].requires_grad_()).order == expected
        )


BATCHES: list[tuple[Any, str]] = [
    (tiny.FIVE, "found Candidates"),
    (None, "found NoneType"),
    (["a"], "number 0 .* is 'a', expected Candidates"),
    ([tiny.FIVE, Candidates(Query("q", "sea"), ("a",))], "id 'q': passage number 0"),  # type: ignore[arg-type]
    ([tiny.FIVE, Candidates(Query("q", "sea"), (Passage("a", None),))], "id 'a': passage number 0"),  # type: ignore[arg-type]
    ([tiny.FIVE, Candidates(Query("q", " "), ())], "id 'q': the query is empty"),
]


@pytest.mark.parametrize(("batch", "named"), BATCHES)
def test_a_batch_is_checked_before_any_of_it_is_encoded(reranker: Reranker, batch: Any, named: str) -> None:
    before = len(reranker.encoder.seen)
    with pytest.raises(BadInput, match=named):
        reranker.rank_batch(batch)
    assert len(reranker.encoder.seen) == before


def test_a_batch_may_be_a_generator(reranker: Reranker) -> None:
    batch: Iterable[Any] = (candidates for candidates in [tiny.FIVE, tiny.FIVE])
    assert len(reranker.rank_batch(batch)) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Windows("20", 10), "window is '20'"),  # type: ignore[arg-type]
        (lambda: Windows(20.0, 10), "window is 20.0"),  # type: ignore[arg-type]
        (lambda: Windows(20, None), "step is None"),  # type: ignore[arg-type]
        (lambda: reranker_with(windows=20), "windows is 20"),
        (lambda: reranker_with(batch_tokens=0), "batch_tokens is 0"),
        (lambda: reranker_with(batch_tokens="8"), "batch_tokens is '8'"),
        (lambda: reranker_with(decoder=None), "the decoder is None"),
    ],
)
def test_options_of_other_types_are_refused_by_name(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        make()


def reranker_with(**options: Any) -> Reranker:
    return Reranker(tiny.tiny_model(), tiny.tiny_prompts(), **options)


@settings(max_examples=400)
@given(query=arguments.QUERIES, documents=arguments.DOCUMENTS, options=arguments.OPTIONS)
def test_any_arguments_give_a_permutation_or_bad_input(
    reranker: Reranker, query: Any, documents: Any, options: dict[str, Any]
) -> None:
    try:
        ranking = reranker.rank(query, documents, **options)
    except BadInput as error:
        assert error.problem and error.remedy
    else:
        assert sorted(ranking.order) == list(range(len(ranking.documents)))
