"""Algorithm 1 without a cache, a batch, padding or a mask: the whole sequence again for every rank."""

from __future__ import annotations

import torch

from perank.model.batches import PromptBatch
from perank.model.pe_rank import PERank
from perank.ranking.decoder import WindowBatch


def alone(prompts: PromptBatch, b: int, n: int) -> PromptBatch:
    """Row b of a batch without its padding."""
    length = int(prompts.length_B[b])
    return PromptBatch(
        prompts.ids_BL[b : b + 1, :length],
        prompts.length_B[b : b + 1],
        prompts.slots_BN[b : b + 1, :n],
        prompts.query_slot_B[b : b + 1],
    )


@torch.no_grad()
def brute_force(model: PERank, windows: WindowBatch) -> tuple[list[tuple[int, ...]], list[list[float]]]:
    """Per window: the ranking (its first `depth` ranks greedy, the rest by the last scores), each decision's margin."""
    orders, margins, depth = [], [], windows.depth
    assert depth is None or isinstance(depth, int)
    config = model.decoder.config
    scale = config.hidden_size**0.5 if config.model_type.startswith("gemma") else 1.0  # of what Gemma's layers read
    for b, n in enumerate(windows.candidates_BN.sum(1).tolist()):
        projected_ND = model.projector(windows.vectors_BNE[b, :n])
        sequence_LD = model.embed(alone(windows.prompts, b, n), projected_ND[None])[0]
        left, order, gaps = list(range(n)), list[int](), list[float]()
        while len(left) > 1 and (depth is None or len(order) < depth):
            hidden_D = model.decoder(inputs_embeds=sequence_LD[None], use_cache=False).last_hidden_state[0, -1]
            scores = (projected_ND @ hidden_D).tolist()
            left.sort(key=lambda i, scores=scores: (-scores[i], i))
            gaps.append(scores[left[0]] - scores[left[1]])
            order.append(left.pop(0))
            sequence_LD = torch.cat([sequence_LD, scale * projected_ND[order[-1]][None]])
        orders.append((*order, *left))
        margins.append(gaps)
    return orders, margins
