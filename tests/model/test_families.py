"""Any Hugging Face causal LM: tiny random models of each family against the whole sequence run anew for every rank."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.batches import PromptBatch
from perank.model.llm import LLMSettings
from perank.model.lora import Lora
from perank.model.pe_rank import PERank
from perank.ranking.constrained import Constrained
from perank.ranking.speculative import Speculative
from support import tiny
from support.brute_force import alone

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma": {"head_dim": 8},
    "gemma3_text": {"head_dim": 16, "sliding_window": 512, "query_pre_attn_scalar": 16},
}
PROJ = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def made(family: str) -> PERank:
    return tiny.model_of(family, num_hidden_layers=3, pad_token_id=3, **FAMILIES[family]).requires_grad_(False)


def next_scores(model: PERank, prompt: PromptBatch, projected_ND: Tensor, ranked: list[int]) -> Tensor:
    """scores_N behind these ranks: one row, no cache, vectors as large as the tokens' embeddings of this family."""
    scale = math.sqrt(32) if "gemma" in model.llm.config.model_type else 1.0
    sequence_LD = model.llm.get_input_embeddings()(prompt.ids_BL[0])
    sequence_LD[prompt.slots_BN[0]] = scale * projected_ND
    sequence_LD = torch.cat([sequence_LD, scale * projected_ND[ranked]])
    hidden_D = model.decoder(inputs_embeds=sequence_LD[None], use_cache=False).last_hidden_state[0, -1]
    return projected_ND @ hidden_D


@pytest.mark.parametrize("family", FAMILIES)
def test_step_scores_are_those_of_one_row_at_a_time(family: str) -> None:
    model = made(family)
    windows = tiny.windows([6, 4])
    orders = [[3, 0, 5, 1, 4, 2], [2, 3, 0, 1]]
    order_BK = torch.tensor([orders[0], [*orders[1], -1, -1]])
    scores_BKN = model.step_scores(tiny.rows(windows, order_BK))
    for b, order in enumerate(orders):
        projected_ND = model.projector(windows.vectors_BNE[b, : len(order)])
        for step in range(len(order)):
            expected_N = next_scores(model, alone(windows.prompts, b, len(order)), projected_ND, order[:step])
            torch.testing.assert_close(scores_BKN[b, step, : len(order)], expected_N, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_algorithm_1_and_speculation_rank_as_brute_force_does(family: str) -> None:
    model = made(family)
    windows = tiny.windows([9, 2, 5])
    expected = []
    for b, n in enumerate([9, 2, 5]):
        projected_ND, order = model.projector(windows.vectors_BNE[b, :n]), list[int]()
        while len(order) < n:
            scores = next_scores(model, alone(windows.prompts, b, n), projected_ND, order).tolist()
            order.append(max(set(range(n)) - set(order), key=scores.__getitem__))
        expected.append(tuple(order))
    assert Constrained().decode(model, windows).orders == expected
    assert Speculative().decode(model, windows).orders == expected


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text", "mistral"])
def test_a_window_that_slides_out_of_sight_is_refused(family: str) -> None:
    model = made(family)
    config = model.decoder.config
    config.sliding_window, config.layer_types = 12, ["full_attention", "sliding_attention", "full_attention"]
    with pytest.raises(BadInput, match="sliding attention sees 12 tokens"):
        Constrained().decode(model, tiny.windows([9]))


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_find_their_layers_and_start_as_nothing(family: str) -> None:
    model, order_BK = made(family), torch.tensor([[3, 0, 5, 1, 4, 2], [2, 3, 0, 1, -1, -1]])
    batch = tiny.rows(tiny.windows([6, 4]), order_BK)
    before = model.step_scores(batch)
    model.llm = LLMSettings(lora=Lora(r=2, targets=PROJ)).prepare(model.llm).double().eval()
    trained = [name for name, parameter in model.llm.named_parameters() if parameter.requires_grad]
    assert len(trained) == 3 * len(PROJ) * 2
    torch.testing.assert_close(model.step_scores(batch), before)


def test_four_bits_need_bitsandbytes_and_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    tiny.tiny_llm().save_pretrained(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(BadInput, match="bitsandbytes"):
        LLMSettings(name=str(tmp_path), quantise=True).load()
