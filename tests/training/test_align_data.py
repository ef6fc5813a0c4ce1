"""Alignment rows: an instruction with one slot, the text as its answer, and the text's own vector."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perank.errors import BadInput
from perank.model.templates import ALIGN_INSTRUCTIONS
from perank.records import Passage
from perank.training.align_data import AlignData, AlignSettings
from perank.training.stream import row_at
from support import tiny
from training.test_rank_data import IDS, Numbered

VECTORS = Numbered(IDS)


def data(passages: Any = tiny.PASSAGES, **options: Any) -> AlignData:
    settings = AlignSettings(**{"batch_size": 2, **options})
    return AlignData(list(passages), VECTORS, tiny.tiny_prompts(), settings)


def test_targets_are_the_text_and_nothing_of_the_instruction() -> None:
    module, tokenizer = data(), tiny.tiny_prompts().tokenizer
    for position in range(5):
        example, passage = module.example(position), tiny.PASSAGES[row_at(position, 5, 0)]
        answer = [id for id in example.targets if id != -100]
        assert tokenizer.decode(answer, skip_special_tokens=True) == passage.contents
        assert answer[-1] == tokenizer.eos_token_id
        assert list(example.prompt.ids[-len(answer) :]) == answer
        assert example.targets[: -len(answer)] == (-100,) * (len(example.prompt) - len(answer))
        assert VECTORS.ids([example.vector_E]) == [passage.id]
        assert len(example.prompt.slots) == 1


def test_instructions_take_turns_along_the_stream() -> None:
    count = len(ALIGN_INSTRUCTIONS)
    module = data(tiny.PASSAGES[:1], epochs=2 * count)
    prompts = [module.example(position).prompt for position in range(2 * count)]
    assert len(set(prompts[:count])) == count
    assert prompts[:count] == prompts[count:]


def test_long_texts_are_cut_and_then_have_no_end() -> None:
    example = data(text_tokens=3).example(0)
    answer = [id for id in example.targets if id != -100]
    assert len(answer) == 3
    assert tiny.tiny_prompts().tokenizer.eos_token_id not in answer
    with pytest.raises(BadInput, match="text_tokens is 0"):
        data(text_tokens=0)


def test_a_batch_pads_targets_so_that_they_do_not_count() -> None:
    module = data()
    examples = [module.example(position) for position in range(5)]
    batch = module.collate(examples)
    assert batch.vectors_BNE.shape == (5, 1, 2)
    for b, example in enumerate(examples):
        assert batch.targets_BL[b, : len(example.targets)].tolist() == list(example.targets)
        assert (batch.targets_BL[b, len(example.targets) :] == -100).all()
        assert torch.equal(batch.vectors_BNE[b, 0], torch.from_numpy(example.vector_E))


def test_passages_without_a_text_are_left_out_and_counted() -> None:
    module = data([*tiny.PASSAGES, Passage("blank", " \n")])
    assert (module.rows, module.dropped) == (5, 1)
    with pytest.raises(BadInput, match="no passage has a text"):
        data([Passage("blank", "")])
