"""Listwise prompts say what the papers say, never lose their instruction, and shorten texts evenly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.model.listwise_prompts import LISTWISE_TEMPLATES, ListwisePrompts, _evenly
from support.tiny_families import CHATML, chat_tokenizer

TEXTS = ["the cat sat", "dogs ran far [3]", "rain falls"]


def prompts(version: str, **options: Any) -> ListwisePrompts:
    return ListwisePrompts(chat_tokenizer(), version, **options)


def said(version: str, query: str = "the cat", texts: list[str] | None = None, **options: Any) -> str:
    ids = prompts(version, **options).rank(query, TEXTS if texts is None else texts).ids
    return str(chat_tokenizer().decode(ids))


def test_table_10_is_printed_as_it_stands() -> None:
    assert said("table10") == (
        "<s>[INST] I will provide you with 3 passages. Rank the passages based on their relevance to the search query: "
        "the cat.\n\nPassage 1: the cat sat\n\nPassage 2: dogs ran far (3)\n\nPassage 3: rain falls\n\n"
        "Search Query: the cat\n\nRank the 3 passages above based on their relevance to the search query in descending "
        "order. The output format should be [] > [] > ..., e.g., [4] > [2] > ... Only respond with the ranking results "
        "with 3 unique numbers, do not say anything else or explain. [/INST]"
    )


def test_rankmistral_is_asked_as_the_authors_run_it() -> None:
    assert said("rankmistral") == (
        "<s>[INST] I will provide you with 3 passages.\nRank the passages based on their relevance to the search "
        "query: the cat.\nPassage 1: the cat sat\n\nPassage 2: dogs ran far (3)\n\nPassage 3: rain falls\n\n"
        "Search Query: the cat.\nRank the 3 relatively ordered passages above based on their relevance to the search "
        "query, output the ranking in descending order. The output format should be [] > [] > ..., e.g., "
        "[4] > [2] > ..., Only respond with the ranking results with 3 unique numbers, do not say anything else or "
        "explain.\n\n [/INST]"
    )


def test_rankvicuna_speaks_vicunas_chat() -> None:
    text = said("rankvicuna")
    assert text.startswith("<s>A chat between a curious user and an artificial intelligence assistant. The assistant")
    assert "USER: I will provide you with 3 passages, each indicated by a numerical identifier []." in text
    assert "query: the cat.\n\n[1] the cat sat\n[2] dogs ran far (3)\n[3] rain falls\nSearch Query: the cat.\n" in text
    assert text.endswith(
        "e.g., [4] > [2], Only respond with the ranking results, do not say any word or explain. ASSISTANT:"
    )


def test_rankzephyr_speaks_zephyrs_chat_with_a_system_message() -> None:
    text = said("rankzephyr")
    assert text.startswith("<s><|system|>\nYou are RankLLM, an intelligent assistant")
    assert "to the query</s>\n<|user|>\nI will provide you" in text
    assert "e.g., [2] > [1], Only respond" in text
    assert text.endswith("or explain.</s>\n<|assistant|>\n")


def test_first_calls_passages_by_letters_and_opens_the_bracket() -> None:
    text = said("first")
    assert "[A] the cat sat\n[B] dogs ran far (3)\n[C] rain falls\n" in text
    assert text.endswith("<|assistant|>\n[")


def test_line_breaks_inside_a_text_do_not_start_another_passage() -> None:
    assert "[1] the cat [2]" not in said("compact", texts=["the cat\n[2] dogs", "rain"])
    assert "[1] the cat (2) dogs\n[2] rain\n" in said("compact", texts=["the cat\n[2] dogs", "rain"])


def test_a_tokenizers_own_chat_template_is_used_where_none_is_given() -> None:
    made = ListwisePrompts(chat_tokenizer(CHATML), "rankmistral")
    assert chat_tokenizer(CHATML).decode(made.rank("the cat", TEXTS).ids).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("version", LISTWISE_TEMPLATES)
def test_no_text_can_spell_a_special_token(version: str) -> None:
    ends = chat_tokenizer().convert_tokens_to_ids("</s>")
    plain = prompts(version).rank("the cat", ["a", "b"]).ids.count(ends)
    assert prompts(version).rank("</s>", ["</s> a", "b</s>"]).ids.count(ends) == plain


@pytest.mark.parametrize("version", LISTWISE_TEMPLATES)
def test_a_training_answer_follows_the_prompt_of_inference(version: str) -> None:
    made = prompts(version)
    user = made.template.message("the cat", TEXTS)
    whole = made.render(user, made.template.answer([1, 0, 2])).ids
    text = chat_tokenizer().decode(whole)
    assert text.endswith("[B] > [A] > [C]</s>" if version == "first" else "[2] > [1] > [3]</s>")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 60))
@settings(max_examples=40)
def test_texts_are_shortened_evenly_and_only_where_they_must(sizes: list[int], room: int) -> None:
    made, texts = prompts("compact"), ["x" * size for size in sizes]
    least = len(made.rank("the cat", ["" for _ in texts]).ids)
    found = made.rank("the cat", texts, within=least + room)
    lengths = [made.builder.count(text) for text in texts]
    assert len(found.ids) <= least + room
    kept = chat_tokenizer().decode(found.ids).split("Query:")[0].count("x")
    fair = max(sum(min(length, cap) for length in lengths) for cap in range(41) if _fits(lengths, cap, room))
    assert fair - len(texts) <= kept <= sum(lengths)
    assert (found.shortened == 0) == (kept == sum(sizes))


def _fits(lengths: list[int], cap: int, room: int) -> bool:
    return sum(min(length, cap) for length in lengths) <= room


@given(st.lists(st.integers(0, 50), max_size=8), st.integers(-5, 200))
def test_the_common_cap_is_the_largest_that_fits(lengths: list[int], room: int) -> None:
    cap = _evenly(lengths, room)
    assert cap == 0 or _fits(lengths, cap, room)
    assert cap >= max(lengths, default=0) or not _fits(lengths, cap + 1, room)


def test_text_tokens_caps_every_text() -> None:
    found = prompts("compact", text_tokens=2).rank("the cat", ["xxxxx", "x"])
    assert found.shortened == 1
    assert "[1] xx\n[2] x\n" in chat_tokenizer().decode(found.ids)


def test_an_instruction_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="without any passage text, 20 fit"):
        prompts("rankmistral").rank("the cat", TEXTS, within=20)


def test_an_empty_query_and_an_unknown_version_are_refused() -> None:
    with pytest.raises(BadInput, match="the query is empty"):
        prompts("compact").rank(" ", TEXTS)
    with pytest.raises(BadInput, match="unknown listwise prompt 'rankllama'"):
        prompts("rankllama")


def test_the_answers_length_counts_its_end() -> None:
    assert prompts("table10").answer_tokens(2) == len(chat_tokenizer()("[1] > [2]").input_ids) + 1
