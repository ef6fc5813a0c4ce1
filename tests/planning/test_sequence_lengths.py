"""Lengths of training rows: those of the prompt builder, and the stand-in tokenizer against the paper's counts."""

from __future__ import annotations

import pytest

from perank.model.prompts import PromptBuilder
from perank.planning.sequence_lengths import StandInTokenizer, align_length, rank_lengths
from support import tiny


@pytest.mark.parametrize(("candidates", "published"), [(20, 326.9), (100, 1210.9)])
def test_the_stand_in_counts_the_papers_prompts_within_a_tenth(candidates: int, published: float) -> None:
    builder = PromptBuilder(StandInTokenizer(), "reference")
    (length,) = rank_lengths(builder, candidates=candidates, steps=None, texts=False, query_tokens=8, passage_tokens=95)
    assert length - (candidates - 1) == pytest.approx(published, rel=0.1)


def test_texts_add_their_tokens_and_ranks_follow_the_prompt() -> None:
    builder = tiny.tiny_prompts("paper")
    settings = {"candidates": 5, "query_tokens": 3, "passage_tokens": 10}
    all_ranks = rank_lengths(builder, steps=None, texts=True, **settings)  # type: ignore[arg-type]
    first_two = rank_lengths(builder, steps=2, texts=True, **settings)  # type: ignore[arg-type]
    assert all_ranks[0] == len(builder.rank("the the the", 5)) + 4
    assert [a - b for a, b in zip(all_ranks, first_two, strict=True)] == [3, 3]
    assert all_ranks[1] >= all_ranks[0] + 5 * 10


def test_alignment_ends_with_the_text() -> None:
    builder = tiny.tiny_prompts("paper")
    short = align_length(builder, text_tokens=64, passage_tokens=10)
    assert align_length(builder, text_tokens=64, passage_tokens=20) == short + 10
    assert align_length(builder, text_tokens=64, passage_tokens=500) == align_length(
        builder, text_tokens=64, passage_tokens=600
    )
