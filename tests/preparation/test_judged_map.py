"""What judgements say beyond the anchors: the trained function, its penalty and its settings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from perank.errors import BadInput
from perank.model.anchors import AnchorSettings
from perank.preparation.judged_map import JudgedLists, JudgedMapSettings, _anchored, judged_map
from support.small_suite import small_suite

ANCHORS = AnchorSettings(cosine=5.0, rank=0.5, feedback=2.0, llm=2.0, first=3, temperature=0.1, stepwise=False)
WIDTH = 8


def settings(**changes: Any) -> JudgedMapSettings:
    known: dict[str, Any] = {
        "anchors": ANCHORS,
        "questions": small_suite().collection,
        "steps": 150,
        "batch": 64,
        "lr": 3e-3,
    }
    return JudgedMapSettings(**{**known, "hidden": 32, "penalty": 0.0, **changes})


def lists(count: int = 300, n: int = 6) -> JudgedLists:
    """Questions whose relevant passage is the nearest to a rotation of their vector."""
    draw = torch.Generator().manual_seed(0)
    queries_RE, vectors_RNE = (
        normalize(torch.randn(*shape, WIDTH, generator=draw), dim=-1) for shape in ((count,), (count, n))
    )
    rotation_EE = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw)).Q
    best_R = torch.einsum("rne,re->rn", vectors_RNE, queries_RE @ rotation_EE).argmax(1)
    relevant_RN = torch.nn.functional.one_hot(best_R, n) > 0
    return JudgedLists(queries_RE, torch.zeros(count, WIDTH), vectors_RNE, relevant_RN, torch.ones(count))


def hits(found: JudgedLists, moved_RE: torch.Tensor, rows: slice) -> float:
    """How often the relevant passage has the best score."""
    scores_RN = _anchored(found, ANCHORS) + ANCHORS.llm * torch.einsum("rne,re->rn", found.vectors_RNE, moved_RE)
    return float(found.relevant_RN.gather(1, scores_RN.argmax(1, keepdim=True))[rows].float().mean())


def test_it_finds_what_judgements_say_on_questions_it_never_saw() -> None:
    found, unseen = lists(count=1500), slice(1000, None)
    seen = replace(found, weight_R=(torch.arange(1500) < 1000).float())
    before, after = torch.zeros(1500, WIDTH), judged_map(seen, settings(steps=300))(found.queries_RE)
    assert hits(found, before, unseen) < 0.5 < 0.65 < hits(found, after, unseen)


def test_anchored_scores_are_those_of_the_formula() -> None:
    found = lists(count=4)
    for row in range(4):
        vectors_NE, query_E = found.vectors_RNE[row].double(), found.queries_RE[row].double()
        cosine_N, ranks_N = vectors_NE @ query_E, torch.arange(6).double()
        weights_N = ((cosine_N - 0.05 * (1 + ranks_N).log()) / 0.1)[:3].exp()
        mean_E = (weights_N[:, None] * vectors_NE[:3]).sum(0)
        wanted_N = 5 * cosine_N - 0.5 * (1 + ranks_N).log() + 2 * vectors_NE @ (mean_E / mean_E.norm())
        torch.testing.assert_close(_anchored(found, ANCHORS)[row].double(), wanted_N, atol=1e-5, rtol=1e-5)


def test_what_is_known_already_is_not_learned_again() -> None:
    found = lists()
    known_RE = judged_map(found, settings())(found.queries_RE)
    alone, beside = (
        judged_map(replace(found, known_RE=known), settings(steps=30))(found.queries_RE)
        for known in (torch.zeros_like(known_RE), known_RE)
    )
    assert float(beside.norm()) < 0.7 * float(alone.norm())


def test_the_penalty_keeps_it_small_and_weights_choose_what_it_learns_from() -> None:
    found = lists()
    free, held = (judged_map(found, settings(penalty=penalty))(found.queries_RE).norm() for penalty in (0.0, 1.0))
    assert float(held) < 0.3 * float(free)
    first, second = (
        judged_map(replace(found, weight_R=(torch.arange(300) < 150).float() * a + (1 - a)), settings()) for a in (0, 1)
    )
    assert not torch.equal(first(found.queries_RE), second(found.queries_RE))


def test_it_is_the_same_again_and_leaves_the_global_generator_alone() -> None:
    found = lists(count=50)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, other = (judged_map(found, settings(steps=3))(found.queries_RE) for _ in range(2))
    assert torch.equal(one, other) and torch.equal(before, torch.random.get_rng_state())


def test_weights_go_by_the_part_of_a_union() -> None:
    weighted = settings(weights={"docs": 3.0})
    assert [weighted.weight(id) for id in ("docs:1", "docs", "other:docs")] == [3.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"steps": 0}, "steps"),
        ({"depth": 1}, "depth"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"penalty": float("nan")}, "penalty nan"),
        ({"anchors": replace(ANCHORS, llm=0.0)}, r"anchors\.llm 0.0"),
        ({"weights": {"docs": 0.0}}, r"weights\.docs"),
    ],
)
def test_settings_out_of_range_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        settings(**changes)


def test_the_identity_changes_with_everything_it_depends_on() -> None:
    changed = [settings(**change) for change in ({}, {"penalty": 1.0}, {"weights": {"a": 2.0}}, {"seed": 1})]
    changed.append(settings(anchors=replace(ANCHORS, rank=0.4)))
    assert len({json.dumps(one.identity) for one in changed}) == 5
