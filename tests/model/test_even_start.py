"""The last layer begun as an even average of a text's tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model.even_start import even_start
from support import tiny


@torch.no_grad()
def states(llm: object, ids_QL: Tensor) -> Tensor:
    found: Tensor = llm.get_decoder()(input_ids=ids_QL, use_cache=False).last_hidden_state  # type: ignore[attr-defined]
    return found


def explained(hidden_QD: Tensor, targets_QT: Tensor) -> float:
    """The share of the targets' variance that a linear map of the states explains."""
    inputs, outputs = (values - values.mean(0) for values in (hidden_QD.double(), targets_QT.double()))
    fitted = inputs @ torch.linalg.lstsq(inputs, outputs).solution
    return float(fitted.square().sum() / outputs.square().sum())


def test_the_last_token_knows_what_the_mean_of_all_tokens_says() -> None:
    torch.manual_seed(0)
    llm = tiny.tiny_llm(3, layers=2, width=64, heads=4, kv_heads=2, initializer_range=0.1).eval()
    words = len(llm.get_input_embeddings().weight)
    ids_QL = torch.randint(words, (300, 8))
    bags_QV = torch.zeros(300, words).scatter_add_(1, ids_QL, torch.ones(300, 8))
    targets_QT = bags_QV @ torch.randn(words, 10)  # depends on all tokens alike
    before = explained(states(llm, ids_QL)[:, -1], targets_QT)

    def run() -> Tensor:
        for start in range(0, len(ids_QL), 128):
            states(llm, ids_QL[start : start + 128])
        return torch.ones_like(ids_QL, dtype=torch.bool)

    passages_XE = torch.randn(200, 10)
    share = even_start(llm, run, targets_QT, passages_XE, passages_XE @ torch.randn(10, 64))
    after = explained(states(llm, ids_QL)[:, -1], targets_QT)
    assert share > 0.4
    assert after > before + 0.1
    weights = llm.get_decoder().layers[-1].self_attn.q_proj.weight
    assert not weights.any()  # all positions get the same attention


def test_an_llm_of_another_architecture_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    llm = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=64))
    llm.transformer.layers = llm.transformer.h
    with pytest.raises(BadInput, match=r"no q, k, v, o projections.*Llama-like backbone"):
        even_start(llm, lambda: torch.ones(1, 1), *torch.zeros(3, 2, 4))
