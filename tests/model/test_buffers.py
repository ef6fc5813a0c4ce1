"""Rotary frequencies survive a strategy that casts the whole module."""

from __future__ import annotations

import torch

from perank.model.precision import buffers_in_fp32, restore_buffers
from support import tiny


def test_buffers_that_were_cast_come_back_as_they_were_and_weights_stay_cast() -> None:
    model = tiny.tiny_model(dtype=torch.float32)
    model.score_scale.fill_(0.123456)
    kept = buffers_in_fp32(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.bfloat16()
    assert not torch.equal(model.score_scale.float(), before["score_scale"])
    restore_buffers(model, kept)
    assert any("inv_freq" in name for name in before)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_buffers_that_nobody_cast_keep_what_was_loaded_since() -> None:
    model = tiny.tiny_model(dtype=torch.float32)
    kept = buffers_in_fp32(model)
    model.score_scale.fill_(7.0)
    restore_buffers(model, kept)
    assert model.score_scale == 7.0
