"""Cross entropy in blocks of positions against torch over all of them, for LLMs that scale or cap their logits too."""

from __future__ import annotations

import pytest
import torch

from perank.model import losses
from perank.model.batches import IGNORE
from perank.model.losses import token_loss, vocabulary_logits
from support import tiny


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_loss_and_gradient_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(losses, "BLOCK", block)
    llm, dice = tiny.tiny_llm().double(), torch.Generator().manual_seed(0)
    hidden_BLD = torch.randn(2, 6, 32, generator=dice, dtype=torch.float64)
    targets_BL = torch.randint(4, 40, (2, 6), generator=dice).index_fill(1, torch.tensor([0, 1, 4]), IGNORE)
    gradients = []
    for loss_of in (
        lambda hidden: token_loss(llm, hidden, targets_BL),
        lambda hidden: torch.nn.functional.cross_entropy(
            llm.lm_head(hidden)[:, :-1].flatten(0, 1).float(), targets_BL[:, 1:].flatten()
        ),
    ):
        hidden = hidden_BLD.clone().requires_grad_()
        loss = loss_of(hidden)
        loss.backward()
        gradients.append((loss.item(), hidden.grad))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-6)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {}),
        ("qwen3", {"head_dim": 8}),
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 2.0}),
        ("cohere", {"logit_scale": 0.5}),
        ("granite", {"logits_scaling": 3.0}),
    ],
)
def test_logits_are_those_of_the_llm_itself(family: str, options: dict[str, float]) -> None:
    llm = tiny.llm_of(family, 40, initializer_range=0.3, **options)
    ids_BL = torch.arange(4, 12).view(2, 4)
    with torch.inference_mode():
        hidden_BLD = llm.get_decoder()(input_ids=ids_BL).last_hidden_state
        torch.testing.assert_close(vocabulary_logits(llm, hidden_BLD), llm(input_ids=ids_BL).logits)
