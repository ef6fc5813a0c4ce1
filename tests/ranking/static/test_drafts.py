"""Drafts in tensor arithmetic are the trees of the best-first search."""

from __future__ import annotations

import random

import pytest
import torch

from perank.ranking.draft_tree import draft_tree
from perank.ranking.static.drafts import Draft, draft, draft_size

Paths = set[tuple[int, ...]]


def paths_of(tree: Draft, row: int) -> Paths:
    """Every node as the candidates it ranks, from the root on."""
    found = set()
    for seen_K, real in zip(tree.ancestry_BKK[row].tolist(), tree.real_BK[row].tolist(), strict=True):
        if real:
            nodes = [k for k, seen in enumerate(seen_K) if seen]
            nodes.sort(key=lambda k: int(tree.depth_BK[row, k]))
            found.add(tuple(int(tree.items_BK[row, k]) for k in nodes))
    return found


def searched(scores: list[float], candidates: list[int], nodes: int, depth: int, temperature: float) -> Paths:
    """The same from `draft_tree`."""
    tree = draft_tree(scores[: nodes + 1], candidates, nodes=nodes, depth=depth, temperature=temperature)
    paths = [(tree.items[0],)]
    for item, parent in zip(tree.items[1:], tree.parents[1:], strict=True):
        paths.append((*paths[parent], item))
    return set(paths)


@pytest.mark.parametrize("nodes", [1, 2, 5, 12, 40, 64])
def test_a_draft_is_the_tree_that_the_best_first_search_finds(nodes: int) -> None:
    dice = random.Random(nodes)
    for trial in range(30):
        n, rows = dice.randint(3, 30), dice.randint(1, 4)
        scores_BN = torch.randn(rows, n, generator=torch.Generator().manual_seed(trial), dtype=torch.float64)
        open_BN = torch.rand(rows, n, generator=torch.Generator().manual_seed(trial)) < 0.8
        open_BN[:, :3] = True
        depths = [dice.randint(1, int(count) - 1) for count in open_BN.sum(1)]
        temperatures = [10 ** dice.uniform(-2, 1) for _ in depths]
        levels = min(nodes, max(depths))
        tree = draft(
            *(scores_BN, open_BN, torch.tensor(temperatures, dtype=torch.float64), torch.tensor(depths)),
            nodes=draft_size(nodes, levels, n),
            levels=levels,
        )
        for row, (depth, temperature) in enumerate(zip(depths, temperatures, strict=True)):
            left = sorted(open_BN[row].nonzero()[:, 0].tolist(), key=lambda i: -float(scores_BN[row, i]))
            scores = [float(scores_BN[row, i]) for i in left]
            assert paths_of(tree, row) == searched(scores, left, nodes, depth, temperature)


def test_parents_lead_to_their_children() -> None:
    tree = draft(
        *(torch.randn(2, 9), torch.ones(2, 9, dtype=torch.bool), torch.ones(2), torch.tensor([8, 8])),
        nodes=20,
        levels=7,
    )
    assert tree.depth_BK[:, 0].tolist() == tree.parent_BK[:, 0].tolist() == [0, 0]
    for row in range(2):
        for k in range(1, 20):
            parent = int(tree.parent_BK[row, k])
            assert tree.depth_BK[row, parent] == tree.depth_BK[row, k] - 1
            assert tree.ancestry_BKK[row, k, parent]


def test_a_certain_model_drafts_its_sorted_scores() -> None:
    scores_BN = torch.tensor([[3.0, 9.0, 1.0, 5.0]])
    tree = draft(scores_BN, torch.ones(1, 4, dtype=torch.bool), torch.zeros(1), torch.tensor([3]), nodes=3, levels=3)
    assert paths_of(tree, 0) == {(1,), (1, 3), (1, 3, 0)}
