"""A ranking step's loss is what its terms say; distillation sees every passage of the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perank.model.batches import PromptBatch, RankBatch
from perank.model.losses import RankLoss
from perank.training.optimizer import AdamW
from perank.training.rank import RankModule
from support import tiny


def batch(model: Any) -> RankBatch:
    """Two rows, of three and two candidates."""
    prompts, generator = tiny.tiny_prompts(), torch.Generator().manual_seed(0)
    vectors_BNE = torch.nn.functional.normalize(
        torch.randn(2, 3, model.projector.width_in, generator=generator), dim=-1
    )
    vectors_BNE[1, 2] = 0
    return RankBatch(
        prompt=PromptBatch.of([prompts.rank("the otter", 3), prompts.rank("rain", 2)]),
        vectors_BNE=vectors_BNE,
        candidates_BN=torch.tensor([[True, True, True], [True, True, False]]),
        order_BK=torch.tensor([[2, 0, 1], [1, 0, -1]]),
        query_BE=torch.nn.functional.normalize(torch.randn(2, model.projector.width_in, generator=generator), dim=-1),
    )


def stepped(monkeypatch: pytest.MonkeyPatch, loss: RankLoss) -> tuple[dict[str, torch.Tensor], Any, RankBatch]:
    """The terms of one step, the model and its batch."""
    model, seen = tiny.tiny_model(), {}
    module = RankModule(model, loss, AdamW(lr=1e-3))
    monkeypatch.setattr(module, "log_terms", lambda terms, rows: seen.update(terms))
    made = batch(model)
    module.training_step(made, 0)
    return seen, model, made


@pytest.mark.parametrize("feedback", [(), (0.3, 0.1), (0.3, 0.2, 0.1, 0.05)])
def test_distillation_compares_steps_and_encoder_over_what_is_not_ranked_yet_of_all_rows(
    monkeypatch: pytest.MonkeyPatch, feedback: tuple[float, ...]
) -> None:
    loss = RankLoss(content=0.0, alpha=0.0, distil=0.5, temperature=0.1, feedback=feedback)
    terms, model, made = stepped(monkeypatch, loss)
    with torch.no_grad():
        (hidden_BKD,), projected_BND = model.step_states(made, [made.prompt])
        total = 0.0
        for b, step, ranked in [(0, 0, []), (0, 1, [2]), (0, 2, [2, 0]), (1, 0, []), (1, 1, [1])]:
            left = [at for at in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] if at not in [(b, own) for own in ranked]]
            query = made.query_BE[b].clone()
            for weight, vector in zip(feedback, made.vectors_BNE[b], strict=False):
                query += weight * vector
            scores = torch.stack([model.score_scale * (hidden_BKD[b, step] @ projected_BND[at]) for at in left])
            similarities = torch.stack([query @ made.vectors_BNE[at] for at in left])
            p, q = (similarities.double() / 0.1).softmax(0), scores.double().softmax(0)
            total += float((p * (p.log() - q.log())).sum()) / 5
    assert float(terms["distil"]) == pytest.approx(total, rel=1e-4)
    assert float(terms["loss"]) == pytest.approx(float(terms["rank"]) + 0.5 * total, rel=1e-4)


def test_without_distillation_the_loss_is_the_rank_loss_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terms, _, _ = stepped(monkeypatch, RankLoss(content=0.0, alpha=0.0))
    assert terms.keys() == {"rank", "loss"}
    assert torch.equal(terms["rank"], terms["loss"])


def test_distillation_reaches_projector_and_llm(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.tiny_model().requires_grad_(True)
    module = RankModule(model, RankLoss(rank=0.0, content=0.0, alpha=0.0, distil=1.0), AdamW(lr=1e-3))
    monkeypatch.setattr(module, "log_terms", lambda terms, rows: None)
    module.training_step(batch(model), 0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.projector.parameters())
