"""Drafted trees hold the most probable continuations, by a Plackett-Luce model worked out in full here."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.ranking.draft_tree import Tree, draft_tree


def path(tree: Tree, node: int) -> tuple[int, ...]:
    items = []
    while node >= 0:
        items.append(tree.items[node])
        node = tree.parents[node]
    return tuple(reversed(items))


def probabilities(scores: list[float], depth: int, unsure: float) -> dict[tuple[int, ...], float]:
    """Of every continuation that starts with the best candidate: the product of its choices' softmax shares."""
    found = {(0,): 1.0}
    for length in range(2, depth + 1):
        temperature = unsure * (1 + 0.1 * (length - 2))
        weights = [math.exp((s - scores[0]) / temperature) for s in scores]
        for tail in itertools.permutations(range(1, len(scores)), length - 1):
            left = sum(w for i, w in enumerate(weights) if i not in (0, *tail[:-1]))
            found[0, *tail] = found[0, *tail[:-1]] * weights[tail[-1]] / left
    return found


@pytest.mark.parametrize("nodes", [1, 2, 5, 9, 20])
@pytest.mark.parametrize("unsure", [0.1, 0.5])
@pytest.mark.parametrize("scores", [[2.0, 1.8, 1.7, 0.2, 0.1], [1.0, 0.9, 0.1, 0.05, 0.0], [3.0, 2.0, 1.0, 0.9]])
def test_no_other_continuation_is_more_probable_than_one_in_the_tree(
    scores: list[float], unsure: float, nodes: int
) -> None:
    tree = draft_tree(scores, range(len(scores)), nodes=nodes, depth=4, temperature=unsure)
    every = probabilities(scores, 4, unsure)
    held = {path(tree, k) for k in range(len(tree))}
    assert len(held) == len(tree) == min(nodes, len(every))
    assert min(every[p] for p in held) >= max((every[p] for p in every.keys() - held), default=0) - 1e-12


@given(
    scores=st.lists(st.floats(-5, 5), min_size=1, max_size=9),
    nodes=st.integers(1, 40),
    depth=st.integers(1, 9),
    unsure=st.sampled_from([0.0, 0.1, 2.0]),
    names=st.randoms(),
)
def test_every_tree_is_one(scores: list[float], nodes: int, depth: int, unsure: float, names: object) -> None:
    scores.sort(reverse=True)
    candidates = list(range(100, 100 + len(scores)))
    names.shuffle(candidates)  # type: ignore[attr-defined]
    tree = draft_tree(scores, candidates, nodes=nodes, depth=depth, temperature=unsure)
    paths = [path(tree, k) for k in range(len(tree))]
    assert 1 <= len(tree) <= nodes and len(set(paths)) == len(tree)
    for k, items in enumerate(paths):
        assert items[0] == candidates[0] and len(set(items)) == len(items) == tree.depths[k] + 1 <= max(depth, 1)
        assert tree.parents[k] < k
        assert {path(tree, int(j)) for j in tree.ancestry()[k].nonzero()[0]} == {
            items[:i] for i in range(1, len(items) + 1)
        }
        for j in range(len(tree)):
            if tree.parents[j] == k:
                assert tree.child(k, tree.items[j]) == j
    assert tree.child(0, candidates[0]) is None


def test_without_doubt_the_draft_is_the_sorted_scores() -> None:
    tree = draft_tree([3.0, 2.0, 1.0, 0.5], [7, 5, 6, 4], nodes=4, depth=4, temperature=0)
    assert tree.items == [7, 5, 6, 4] and tree.parents == [-1, 0, 1, 2]
