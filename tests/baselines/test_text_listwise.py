"""Text listwise reranking equals a loop over windows with Hugging Face's generate; bills and shortening are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.baselines.permutation import permutation
from perank.baselines.text_listwise import TextListwise, TextWindow
from perank.errors import BadInput
from perank.ranking.windows import SlidingQuery, Windows
from perank.records import Bill, Candidates, Passage, Query, Ranker
from perank.sources.views import Field
from support import small_llms
from support.sliding import slide

LLMSettings = small_llms.llm(5)


def ranker(**options: Any) -> TextListwise:
    options.setdefault("windows", Windows(8, 4))
    return TextListwise(options.pop("llm", LLMSettings), options.pop("prompts", small_llms.prompts()), **options)


def by_hand(found: Candidates, windows: Windows) -> tuple[int, ...]:
    """Every window written in full by `generate`, one after the other."""

    def rank(positions: Any, depth: int) -> tuple[int, ...]:
        if len(positions) == 1:
            return (0,)
        prompts = small_llms.prompts()
        texts = [found.passages[i].text for i in positions]
        ids = torch.tensor([prompts.rank(found.query.text, texts).ids])
        new = LLMSettings.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=prompts.answer_tokens(len(texts)) + 8,
            do_sample=False,
            pad_token_id=0,
        )
        text = small_llms.tokenizer().decode(new[0, ids.shape[1] :], skip_special_tokens=True)
        return permutation(text, len(texts)).order

    return tuple(slide(windows.plan(len(found)), len(found), rank))


def test_it_is_a_ranker() -> None:
    assert isinstance(ranker(), Ranker)


@pytest.mark.parametrize("sizes", [[20, 1, 8, 9, 0, 2], [5], [13, 20, 17]])
def test_rankings_are_those_of_plain_generation(sizes: list[int]) -> None:
    batch = [small_llms.candidates(n) for n in sizes]
    orders = [found.order for found in ranker(every_rank=True).rank_batch(batch)]
    assert orders == [by_hand(found, Windows(8, 4)) for found in batch]
    assert any(order != tuple(range(len(order))) for order in orders)


@settings(max_examples=6)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=3), st.sampled_from([None, 30, 200]))
def test_company_changes_nothing(sizes: list[int], batch_tokens: int | None) -> None:
    batch = [small_llms.candidates(n, seed) for seed, n in enumerate(sizes)]
    together = ranker(batch_tokens=batch_tokens).rank_batch(batch)
    alone = [ranker().rank_batch([found])[0] for found in batch]
    assert [found.order for found in together] == [found.order for found in alone]
    assert [timeless(found.bill) for found in together] == [timeless(found.bill) for found in alone]


def timeless(bill: Bill) -> Bill:
    return replace(bill, seconds_prefill=0.0, seconds_decode=0.0)


@pytest.mark.parametrize(("n", "cutoff"), [(2, None), (8, 1), (9, None), (19, 3), (20, 10), (20, None)])
def test_writing_no_deeper_than_somebody_looks_changes_no_rank_that_was_asked_for(n: int, cutoff: int | None) -> None:
    batch = [small_llms.candidates(n, seed) for seed in range(3)]
    whole = ranker(every_rank=True).rank_batch(batch)
    short = ranker(windows=Windows(8, 4, cutoff)).rank_batch(batch)
    assert [found.order[:cutoff] for found in short] == [found.order[:cutoff] for found in whole]
    assert sum(found.bill.forwards for found in short) <= sum(found.bill.forwards for found in whole)


def test_an_answer_stops_when_it_has_what_was_asked_for() -> None:
    llm = small_llms.llm(5)
    for k in range(small_llms.N):  # each identifier is followed by the next one
        token = small_llms.tokenizer().convert_tokens_to_ids(f"[{k + 1}] >")
        llm.get_input_embeddings().weight.data[token] = 50.0 * torch.eye(32, dtype=torch.float64)[k]
        llm.get_output_embeddings().weight.data[token] = 50.0 * torch.eye(32, dtype=torch.float64)[k - 1]
    (found,) = ranker(llm=llm).rank_batch([small_llms.candidates(20)])
    (whole,) = ranker(llm=llm, every_rank=True).rank_batch([small_llms.candidates(20)])
    assert found.bill.forwards < whole.bill.forwards
    assert whole.bill.forwards >= 4 * 8


def test_the_bill_counts_what_one_window_read_and_wrote() -> None:
    found = small_llms.candidates(6)
    (ranking,) = ranker(every_rank=True).rank_batch([found])
    prompt = small_llms.prompts().rank(found.query.text, [passage.text for passage in found.passages])
    bill = ranking.bill
    assert bill.forwards == bill.tokens_generated
    assert bill.tokens_processed == len(prompt.ids) + bill.tokens_generated - 1
    assert bill.tokens_generated <= small_llms.prompts().answer_tokens(6) + 8
    assert bill.seconds_prefill > 0
    assert bill.seconds_decode > 0


def test_texts_are_shortened_to_fit_and_the_bill_says_how_many() -> None:
    found = small_llms.candidates(8)
    roomy, tight = small_llms.prompts(), small_llms.prompts(max_length=68)
    least = len(roomy.rank(found.query.text, [""] * 8).ids) + roomy.answer_tokens(8) + 8
    assert least <= 68 < least + sum(len(passage.text.split()) for passage in found.passages)
    (ranking,) = ranker(prompts=tight).rank_batch([found])
    assert 0 < ranking.bill.texts_shortened <= 8
    assert ranker().rank_batch([found])[0].bill.texts_shortened == 0


def test_what_the_llm_can_hold_limits_prompts_too() -> None:
    llm = small_llms.llm(5)
    llm.config.max_position_embeddings = 68
    (ranking,) = ranker(llm=llm).rank_batch([small_llms.candidates(8)])
    assert ranking.bill.texts_shortened > 0


def test_a_view_decides_what_is_read() -> None:
    plain = small_llms.candidates(8)
    titled = replace(plain, passages=tuple(Passage(p.id, "the rain", title=p.text) for p in plain.passages))
    assert (
        ranker(view=Field("title")).rank_batch([titled])[0].order
        == ranker(view=Field("text")).rank_batch([plain])[0].order
    )


def test_repairs_are_counted() -> None:
    (ranking,) = ranker(llm=small_llms.llm(5, sure=False)).rank_batch([small_llms.candidates(8)])
    assert ranking.bill.repairs > 0


def test_an_empty_query_is_refused_by_id() -> None:
    with pytest.raises(BadInput, match=r"'q9'.*the query is empty"):
        ranker().rank_batch([Candidates(Query("q9", " "), small_llms.candidates(2).passages)])


def test_prompts_for_single_letters_are_refused() -> None:
    with pytest.raises(BadInput, match="answers with one letter"):
        ranker(prompts=small_llms.prompts("first"))


@pytest.mark.parametrize(("n", "count"), [(100, 9), (95, 9), (25, 2), (20, 1), (5, 1), (1, 0), (0, 0)])
def test_windows_of_20_by_10_are_as_many_as_the_paper_has_and_end_at_the_top(n: int, count: int) -> None:
    starts: list[int] = []

    class Counting(TextListwise):
        def _prepare(self, query: SlidingQuery) -> TextWindow:
            starts.append(query.spans[0].start)
            return super()._prepare(query)

        def _rank(self, windows: list[TextWindow]) -> Iterator[tuple[Sequence[int], Bill]]:
            return ((range(window.size), Bill()) for window in windows)

    Counting(LLMSettings, small_llms.prompts(), windows=Windows(20, 10)).rank_batch([small_llms.candidates(n)])
    assert len(starts) == count
    assert not starts or starts[-1] == 0
