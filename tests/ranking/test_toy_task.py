"""End to end: a tiny model learns to order passages by something hidden in their vectors, and decoding finds it."""

from __future__ import annotations

import pytest
import torch

from perank.model.batches import PromptBatch, RankBatch
from perank.model.losses import RankLoss
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import WindowBatch
from perank.ranking.speculative import Speculative
from support import tiny


def rows(count: int, n: int, draw: torch.Generator) -> RankBatch:
    """The first coordinate decides; whether upwards or downwards, only the query's word tells."""
    level_BN = torch.stack([torch.randperm(n, generator=draw) for _ in range(count)]) / (n - 1) * 1.8 - 0.9
    noise_BNE = torch.nn.functional.normalize(torch.randn(count, n, 7, generator=draw), dim=-1)
    vectors_BNE = torch.cat([level_BN[..., None], noise_BNE * (1 - level_BN**2).sqrt()[..., None]], -1)
    upwards_B = torch.rand(count, generator=draw) < 0.5
    prompts = tiny.tiny_prompts()
    return RankBatch(
        prompt=PromptBatch.of([prompts.rank("sea" if up else "bread", n) for up in upwards_B]),
        vectors_BNE=vectors_BNE,
        candidates_BN=torch.ones(count, n, dtype=torch.bool),
        order_BK=torch.where(upwards_B[:, None], level_BN, -level_BN).argsort(1),
    )


def windows_of(batch: RankBatch) -> WindowBatch:
    return WindowBatch(batch.prompt, batch.vectors_BNE, batch.candidates_BN)


@pytest.fixture(scope="module")
def learned() -> tuple[PERank, float]:
    """A model after 150 steps, and its last loss (the mean of Eq. 5 over ranks)."""
    torch.manual_seed(0)
    model = PERank(tiny.tiny_llm(initializer_range=0.05), Projector(8, 32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=150)
    loss, draw = RankLoss(content=0, alpha=0, reduction="mean"), torch.Generator().manual_seed(0)
    value = torch.inf
    for _ in range(150):
        batch = rows(32, 8, draw)
        terms = loss(model.step_scores(batch), None, batch.order_BK, batch.candidates_BN)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        schedule.step()
        value = float(terms["loss"].detach())
    return model.eval().requires_grad_(False), value


def test_the_task_is_learned_and_decoded_perfectly(learned: tuple[PERank, float]) -> None:
    model, loss = learned
    batch = rows(64, 8, torch.Generator().manual_seed(1))
    assert loss < 0.02
    decoded = Constrained().decode(model, windows_of(batch))
    assert torch.equal(torch.tensor(decoded.orders), batch.order_BK)


def test_a_sure_model_is_decoded_in_two_forwards(learned: tuple[PERank, float]) -> None:
    batch = rows(64, 8, torch.Generator().manual_seed(2))
    decoded = Speculative(nodes=7).decode(learned[0], windows_of(batch))
    assert torch.equal(torch.tensor(decoded.orders), batch.order_BK)
    assert decoded.forwards == [2] * 64
    assert decoded.tokens_processed == [length + 7 for length in batch.prompt.length_B.tolist()]
