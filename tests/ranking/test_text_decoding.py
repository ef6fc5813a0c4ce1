"""Greedy writing equals Hugging Face's own generation, prompt by prompt, whatever else is in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perank.errors import BadInput
from perank.ranking.text_decoding import TextDecoder
from support import small_llms

FAMILIES = [
    ("llama", {}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {}),
    ("gemma", {"head_dim": 8}),
]


def ids(sizes: list[int]) -> list[list[int]]:
    return [torch.randint(3, len(small_llms.tokenizer()), (size,), generator=_seeded(size)).tolist() for size in sizes]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generated(llm: Any, prompt: list[int], budget: int) -> tuple[str, int]:
    """By transformers, alone."""
    options = {"max_new_tokens": budget, "do_sample": False, "pad_token_id": 0}
    whole = llm.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), **options)
    new = whole[0, len(prompt) :].tolist()
    return small_llms.tokenizer().decode(new, skip_special_tokens=True), len(new)


@pytest.mark.parametrize(("family", "options"), FAMILIES, ids=[family for family, _ in FAMILIES])
def test_texts_are_those_of_generate(family: str, options: dict[str, Any]) -> None:
    llm = small_llms.llm(3, family, sure=False, **options)
    prompts, budgets = ids([5, 30, 17, 9, 30]), [12, 7, 20, 1, 12]
    written = TextDecoder(llm, small_llms.tokenizer()).write(prompts, budgets, lambda b, text: False)
    alone = [generated(llm, prompt, budget) for prompt, budget in zip(prompts, budgets, strict=True)]
    assert list(zip(written.texts, written.tokens, strict=True)) == alone


def test_a_row_that_has_enough_leaves_and_the_others_go_on_unchanged() -> None:
    writer = TextDecoder(small_llms.llm(1), small_llms.tokenizer())
    prompts = ids([8, 12, 20])
    whole = writer.write(prompts, [15] * 3, lambda b, text: False)
    short = writer.write(prompts, [15] * 3, lambda b, text: b == 1 and text.count("]") == 4)
    assert short.tokens == [15, 4, 15]
    assert (short.texts[0], short.texts[2]) == (whole.texts[0], whole.texts[2])
    assert whole.texts[1].startswith(short.texts[1])


def test_the_end_of_sequence_ends_a_text_and_counts_as_a_token() -> None:
    llm = small_llms.llm(1)
    head = llm.get_output_embeddings().weight.data
    head[2] = 3 * head[small_llms.tokenizer().convert_tokens_to_ids("[4] >")]
    written = TextDecoder(llm, small_llms.tokenizer()).write(ids([6, 7]), [30, 30], lambda b, text: False)
    assert [generated(llm, prompt, 30) for prompt in ids([6, 7])] == list(
        zip(written.texts, written.tokens, strict=True)
    )
    assert min(written.tokens) < 30


def test_logits_that_are_not_finite_are_refused() -> None:
    llm = small_llms.llm()
    llm.get_output_embeddings().weight.data[7] = torch.nan
    with pytest.raises(BadInput, match="logits are not finite"):
        TextDecoder(llm, small_llms.tokenizer()).write(ids([4]), [3], lambda b, text: False)


def test_an_llm_with_too_few_positions_is_refused() -> None:
    with pytest.raises(BadInput, match="has 1024 positions"):
        TextDecoder(small_llms.llm(), small_llms.tokenizer()).write(ids([1020]), [10], lambda b, text: False)
