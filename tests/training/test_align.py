"""Stage 1 on a frozen LLM: what it keeps for the backward pass, and where it computes logits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from perank.model.batches import IGNORE, AlignBatch, PromptBatch
from perank.model.llm import LLMSettings
from perank.model.losses import reconstruction
from perank.training.align import AlignModule
from perank.training.optimizer import AdamW
from support import tiny

ROWS, LENGTH, PROMPT = 4, 48, 9


def stage(monkeypatch: pytest.MonkeyPatch, *, checkpointing: bool) -> AlignModule:
    monkeypatch.setattr(AlignModule, "log_terms", lambda *_: None)
    model = tiny.tiny_model(dtype=torch.float32, layers=4, attention_dropout=0.3)
    model.llm = LLMSettings(gradient_checkpointing=checkpointing).prepare(model.llm)
    module = AlignModule(model, AdamW(lr=1e-4))
    module._trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    module.set_modes()
    return module


def batch() -> AlignBatch:
    """A prompt of 9 tokens before each text; the texts end at different places."""
    dice = torch.Generator().manual_seed(1)
    ids_BL = torch.randint(4, 40, (ROWS, LENGTH), generator=dice)
    targets_BL = ids_BL.clone()
    targets_BL[:, :PROMPT] = IGNORE
    for row in range(ROWS):
        targets_BL[row, LENGTH - 5 * row :] = IGNORE
    prompt = PromptBatch(ids_BL, torch.full((ROWS,), LENGTH), torch.full((ROWS, 1), 3), torch.full((ROWS,), -1))
    return AlignBatch(prompt, tiny.unit_vectors(ROWS, 1, 8), targets_BL)


def stepped(module: AlignModule) -> tuple[float, torch.Tensor, int]:
    """Loss, the projector's gradient, and the bytes that the forward pass kept, weights left out."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}

    def pack(value: torch.Tensor) -> torch.Tensor:
        if value.untyped_storage().data_ptr() not in own:
            kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        loss = module.training_step(batch(), 0)
    loss.backward()
    gradient: Any = module.model.projector[0].weight.grad
    return loss.item(), gradient, sum(kept.values())


def test_a_frozen_llm_recomputes_its_layers_and_drops_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = stepped(stage(monkeypatch, checkpointing=False))
    again = stepped(stage(monkeypatch, checkpointing=True))
    assert again[0] == pytest.approx(kept[0], rel=1e-6)
    torch.testing.assert_close(again[1], kept[1], rtol=1e-4, atol=1e-7)
    assert again[2] < kept[2] / 3


def test_logits_are_computed_only_where_a_token_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = stage(monkeypatch, checkpointing=False), []
    head = module.model.llm.get_output_embeddings()
    head.register_forward_hook(lambda layer, inputs, output: seen.append(output.numel() // output.shape[-1]))
    rows = batch()
    loss = module.training_step(rows, 0)
    assert sum(seen) == int((rows.targets_BL[:, 1:] != IGNORE).sum())
    everywhere_BLV = module.model.token_logits(rows)
    assert loss.item() == pytest.approx(reconstruction(everywhere_BLV[:, :-1], rows.targets_BL[:, 1:]).item(), rel=1e-6)
