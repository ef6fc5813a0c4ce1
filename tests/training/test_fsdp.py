"""A model in shards computes, trains, saves and ranks as the whole one: one process here, two in test_trainers.py."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment

from perank.errors import BadInput
from perank.model.batches import RankBatch
from perank.model.llm import LLMSettings
from perank.model.lora import Lora, load_trained_state, trained_state
from perank.model.losses import RankLoss
from perank.model.pe_rank import PERank
from perank.model.sharding import full_state, gathered, is_sharded, shard_model
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.training.fsdp import ShardedStrategy
from support import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*returned a view tensor.*")  # nothing changes it in place


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A group of one process over gloo."""
    file = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield dist.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def made(lora: bool, *, tied: bool = False) -> PERank:
    model = tiny.tiny_model(dtype=torch.float32, tie_word_embeddings=tied).requires_grad_(True)
    if lora:
        torch.manual_seed(0)  # where adapters start
        model.llm = LLMSettings(lora=Lora(r=2, dropout=0.0)).prepare(model.llm.bfloat16())
    return model


def batch(seed: int) -> RankBatch:
    windows = tiny.windows([4, 5], seed=seed, dtype=torch.float32)
    order_BK = torch.tensor([[2, 0, 1, 3, -1], [4, 3, 0, 2, 1]])
    return tiny.rows(windows, order_BK, content=windows.prompts)


def losses(model: PERank, steps: int = 4) -> list[float]:
    """Of AdamW steps with clipped gradients; two prompts run before each backward pass."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, loss, found = torch.optim.AdamW(trained, lr=1e-2), RankLoss(), []
    for step in range(steps):
        rows = batch(step)
        hidden, projected_BND = model.step_states(rows, [rows.prompt, rows.content])
        scores = [model.score(hidden_BKD, projected_BND, rows.vectors_BNE) for hidden_BKD in hidden]
        terms = loss(*scores, rows.order_BK, rows.candidates_BN)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found.append(terms["loss"].item())
    return found


@pytest.mark.parametrize(("lora", "tied"), [(False, False), (False, True), (True, False)])
def test_steps_in_shards_have_the_losses_and_weights_of_the_whole_model(mesh: Any, lora: bool, tied: bool) -> None:
    one, sharded = made(lora, tied=tied), made(lora, tied=tied)
    shard_model(sharded, mesh, None)
    assert is_sharded(sharded)
    assert not is_sharded(one)
    assert losses(sharded) == pytest.approx(losses(one), rel=1e-4 if lora else 1e-6)
    states = full_state(one), full_state(sharded)
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4)


def test_layers_are_multiplied_in_the_type_asked_for_and_kept_in_their_own(mesh: Any) -> None:
    model = made(lora=False)
    shard_model(model, mesh, torch.bfloat16)
    seen: list[torch.dtype] = []
    model.decoder.layers[0].mlp.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    assert losses(model)[0] == pytest.approx(losses(made(lora=False))[0], rel=0.1)
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_checkpoint_of_the_whole_model_loads_into_shards_and_back(mesh: Any) -> None:
    one, sharded = made(lora=False), made(lora=False)
    losses(one)
    shard_model(sharded, mesh, None)
    load_trained_state(sharded, trained_state(one))
    back = made(lora=False)
    load_trained_state(back, {name: full_state(sharded)[name] for name in trained_state(back)})
    for name, value in one.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)


@pytest.mark.parametrize(("rank", "most"), [(0, 10_000), (1, 2)], ids=["the first device", "another device"])
def test_only_the_first_device_holds_the_gathered_tensors_of_a_checkpoint(
    mesh: Any, monkeypatch: pytest.MonkeyPatch, rank: int, most: int
) -> None:
    from torch.distributed.tensor import DTensor

    model, alive, peak, gather = made(lora=False), [], [0], DTensor.full_tensor
    shard_model(model, mesh, None)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    sum(p.full_tensor().sum() for p in trained).backward()
    optimizer.step()

    def watched(self: Any, **options: Any) -> torch.Tensor:
        whole = gather(self, **options).clone()
        alive.append(weakref.ref(whole))
        peak[0] = max(peak[0], sum(reference() is not None for reference in alive))
        return whole

    monkeypatch.setattr(DTensor, "full_tensor", watched)
    monkeypatch.setattr(dist, "get_rank", lambda *_: rank)
    strategy = ShardedStrategy(dtype=None)
    strategy._lightning_module = model  # type: ignore[assignment]
    strategy.cluster_environment = LightningEnvironment()
    strategy.cluster_environment._global_rank = rank
    states = strategy.lightning_module_state_dict(), strategy.optimizer_state(optimizer)
    assert len(alive) == 3 * len(trained)  # weights and two moments: all devices take part in gathering
    assert peak[0] <= most
    assert [bool(state) for state in states] == [rank == 0] * 2


def test_it_ranks_in_shards_between_two_steps(mesh: Any) -> None:
    one, sharded = made(lora=False), made(lora=False)
    shard_model(sharded, mesh, None)
    losses(one)
    losses(sharded)
    vectors = tiny.unit_vectors(7, 8)
    orders = []
    for model in (one, sharded):
        with gathered(model):
            reranker = Reranker(model, tiny.tiny_prompts(), windows=Windows(5, 2))
            orders.append(reranker.rank("which otter", passage_embeddings=vectors).order)
    assert orders[0] == orders[1]
    assert losses(sharded) == pytest.approx(losses(one), rel=1e-4)


def test_an_llm_without_layers_of_the_usual_kind_is_refused(mesh: Any, tmp_path: Path) -> None:
    model = made(lora=False)
    model.llm.model.layers = torch.nn.ModuleList()
    with pytest.raises(BadInput, match="no layers to shard"):
        shard_model(model, mesh, None)


def test_shards_are_read_from_a_mapped_file_whose_checksums_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight, mapped, load = torch.randn(1000), [], torch.load
    filled: dict[str, Any] = {name: [{}] for name in ("optimizer_states", "lr_schedulers", "random_states")}
    torch.save({"state_dict": {"weight": weight}, "global_step": 1, "loops": {}, **filled}, tmp_path / "x.ckpt")
    monkeypatch.setattr(torch, "load", lambda *a, **named: mapped.append(named["mmap"]) or load(*a, **named))
    found = ShardedStrategy().load_checkpoint(tmp_path / "x.ckpt")
    assert torch.equal(found["state_dict"]["weight"], weight)
    assert mapped == [True]
    damaged = bytearray((tmp_path / "x.ckpt").read_bytes())
    damaged[damaged.index(weight.numpy().tobytes()) + 5] ^= 1
    (tmp_path / "x.ckpt").write_bytes(damaged)
    with pytest.raises(BadInput, match="wrong checksum"):
        ShardedStrategy().load_checkpoint(tmp_path / "x.ckpt")
