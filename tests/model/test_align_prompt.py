"""Stage 1's sequence: the authors' ids, the prompt of inference as its beginning, cuts at the end only."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.files import read_json
from perank.model.align_prompt import align_example
from perank.model.prompts import SLOT, PromptBuilder
from perank.model.templates import ALIGN_INSTRUCTIONS
from perank.preparation.authors_jsonl import read_alignment, slotted
from support.tiny_families import CHATML, MISTRAL, chat_tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufdd0\ufdd1\ufdd2"), max_size=30)


def builder(template: str = MISTRAL, max_length: int = 512) -> PromptBuilder:
    return PromptBuilder(chat_tokenizer(template), max_length=max_length)


def spelled(ids: tuple[int, ...]) -> str:
    return str(chat_tokenizer().decode(ids))


def test_the_authors_rows_give_the_authors_ids_and_targets(shared: Path) -> None:
    from transformers import AutoTokenizer, MistralConfig

    folder = shared / "fixtures" / "pe_rank"
    prompts = PromptBuilder(AutoTokenizer.from_pretrained(folder / "checkpoint", config=MistralConfig()), "reference")
    expected = read_json(folder / "expected.json")["stage1"]["rows"]
    for row, theirs in zip(read_alignment(folder / "stage1.jsonl"), expected, strict=True):
        prompt, answer = align_example(prompts, slotted(row.user), row.answer)
        placeholder = prompts.tokenizer.convert_tokens_to_ids("<PLACEHOLDER>")
        ids = [placeholder if i in prompt.slots else id for i, id in enumerate(prompt.ids)]
        assert ids + list(answer) == theirs["input_ids"]
        assert [-100] * len(prompt) + list(answer) == theirs["labels"]


@settings(deadline=None, max_examples=60)
@given(TEXT, st.sampled_from([MISTRAL, CHATML]), st.sampled_from(ALIGN_INSTRUCTIONS))
def test_the_answer_spells_the_text_and_ends_with_the_end_of_sequence(text: str, template: str, asked: str) -> None:
    prompts = builder(template)
    prompt, answer = align_example(prompts, asked.format(slot=SLOT), text)
    assert prompt == prompts.chat(asked.format(slot=SLOT))
    assert answer[-1] == prompts.tokenizer.eos_token_id
    assert spelled(answer[:-1]).removeprefix(" ") == text.removeprefix(" ")


@settings(deadline=None, max_examples=60)
@given(TEXT.filter(lambda text: "<" not in text))
def test_prompt_and_answer_are_the_ids_of_one_text(text: str) -> None:
    tokenizer = chat_tokenizer()
    prompt, answer = align_example(builder(), "Repeat: ", text)
    whole = spelled((*prompt.ids, *answer[:-1]))
    assert [*prompt.ids, *answer] == tokenizer(whole + "</s>", add_special_tokens=False).input_ids


@pytest.mark.parametrize("text", ["[4] cats", "(cats)", '"cats"'])
def test_an_answer_that_would_merge_with_the_prompt_gets_one_space_in_front(text: str) -> None:
    tokenizer = chat_tokenizer()
    joined = tokenizer("[/INST]" + text[0], add_special_tokens=False).input_ids
    assert joined != tokenizer("[/INST]", add_special_tokens=False).input_ids + joined[-1:]  # it would merge
    prompt, answer = align_example(builder(), "Repeat: " + SLOT, text)
    assert spelled(answer) == f" {text}</s>"
    assert spelled(prompt.ids).endswith("[/INST]")


def test_an_end_of_sequence_inside_the_text_is_text() -> None:
    _, answer = align_example(builder(), "Repeat: " + SLOT, "cats</s>dogs" + SLOT)
    assert answer.count(chat_tokenizer().eos_token_id) == 1
    assert spelled(answer) == "cats</s>dogs</s>"


def test_a_long_answer_is_cut_at_its_end_and_then_has_no_end_of_sequence() -> None:
    whole = align_example(builder(), SLOT, "cat " * 20)[1]
    cut = align_example(builder(), SLOT, "cat " * 20, text_tokens=7)[1]
    assert cut == whole[:7]
    kept = align_example(builder(), SLOT, "cat " * 20, text_tokens=len(whole) - 1)[1]
    assert kept == whole


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 60), st.integers(1, 40))
def test_nothing_exceeds_the_length_that_fits(words: int, room: int) -> None:
    asked = SLOT + " Please repeat."
    prompts = builder(max_length=len(builder().chat(asked)) + room)
    prompt, answer = align_example(prompts, asked, "cat " * words)
    assert len(prompt) + len(answer) <= prompts.max_length
    assert prompt == builder().chat(asked)


def test_an_instruction_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(BadInput, match="the instruction takes"):
        align_example(builder(max_length=10), SLOT + " Please repeat the passage above.", "cats")
