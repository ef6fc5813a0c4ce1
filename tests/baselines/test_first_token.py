"""FIRST-style scoring: one forward a window, equal to reading the next token's logits prompt by prompt."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from perank.baselines.first_token import FirstToken, letter_tokens
from perank.errors import BadInput
from perank.model.listwise_prompts import ListwisePrompts
from perank.ranking.windows import Windows
from perank.records import Candidates, Ranker
from support import small_llms
from support.sliding import slide
from support.tiny_families import chat_tokenizer, tiny_llm


def prompts(version: str = "first", **options: Any) -> ListwisePrompts:
    return ListwisePrompts(chat_tokenizer(), version, **options)


@lru_cache
def llm(family: str) -> Any:
    return tiny_llm(2, family).double()


def by_hand(family: str, found: Candidates, windows: Windows) -> tuple[int, ...]:
    def rank(positions: Any, depth: int) -> list[int]:
        texts = [found.passages[i].text for i in positions]
        ids = torch.tensor([prompts().rank(found.query.text, texts).ids])
        with torch.no_grad():
            logits = llm(family)(input_ids=ids).logits[0, -1]
        letters = chat_tokenizer().convert_tokens_to_ids([chr(ord("A") + i) for i in range(len(texts))])
        scores = [float(logits[id]) for id in letters]
        return sorted(range(len(scores)), key=lambda i: -scores[i])

    return tuple(slide(windows.plan(len(found)), len(found), rank))


@pytest.mark.parametrize("family", ["Mistral", "Llama"])  # FIRST and Zephyr, Vicuna
def test_rankings_are_those_of_one_prompt_at_a_time_whatever_the_company(family: str) -> None:
    batch = [small_llms.candidates(n) for n in (9, 1, 0, 6, 5)]
    made = FirstToken(llm(family), prompts(), windows=Windows(6, 3))
    assert isinstance(made, Ranker)
    together = [found.order for found in made.rank_batch(batch)]
    assert together == [by_hand(family, found, Windows(6, 3)) for found in batch]
    assert together == [made.rank_batch([found])[0].order for found in batch]


def test_a_window_is_one_forward_and_writes_one_token() -> None:
    (found,) = FirstToken(llm("Mistral"), prompts(), windows=Windows(6, 3)).rank_batch([small_llms.candidates(12)])
    assert (found.bill.forwards, found.bill.tokens_generated) == (3, 3)
    assert found.bill.tokens_processed > 3 * 100
    assert found.bill.seconds_prefill > 0


def test_texts_are_shortened_where_the_llm_has_no_room() -> None:
    found = small_llms.candidates(6)
    least = len(prompts().rank(found.query.text, [""] * 6).ids)
    made = FirstToken(llm("Mistral"), prompts(max_length=least + 10), windows=Windows(6, 3))
    assert made.rank_batch([found])[0].bill.texts_shortened > 0


def test_more_passages_than_letters_and_numbered_prompts_are_refused() -> None:
    with pytest.raises(BadInput, match="a window of 27 passages"):
        FirstToken(llm("Mistral"), prompts(), windows=Windows(27, 10))
    with pytest.raises(BadInput, match="names passages by numbers"):
        FirstToken(llm("Mistral"), prompts("rankzephyr"))


class Doubling(ListwisePrompts):
    """Prompts whose letters take two tokens and more."""

    def render(self, user: str, answer: str | None = None) -> Any:
        return super().render(user, None if answer is None else answer + "xx")


def test_a_tokenizer_that_gives_letters_no_token_of_their_own_is_refused() -> None:
    with pytest.raises(BadInput, match="doesn't give 'A' a token of its own"):
        letter_tokens(Doubling(chat_tokenizer(), "first"))
