"""The losses against plain Python in float64, the authors' sums, and the laws they must keep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perank.errors import BadInput
from perank.files import read_json
from perank.model.losses import RankLoss, distillation, kl, listmle, log_probabilities, reconstruction, remaining

SCORES = st.floats(-30, 30, width=32)


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]], list[int]]:
    """(embedding scores [N][N], content scores, order) of one row."""
    n = draw(st.integers(1, 6))
    matrix = st.lists(st.lists(SCORES, min_size=n, max_size=n), min_size=n, max_size=n)
    return draw(matrix), draw(matrix), draw(st.permutations(range(n)))


def plain_probabilities(scores: list[float], left: list[int]) -> dict[int, float]:
    """Eq. 4 in float64: candidate -> probability among those left."""
    top = max(scores[j] for j in left)
    weights = {j: math.exp(scores[j] - top) for j in left}
    return {j: w / sum(weights.values()) for j, w in weights.items()}


def plain_sums(scores: list[list[float]], content: list[list[float]], order: list[int]) -> dict[str, float]:
    """Eq. 5, 6 and both readings of Eq. 7, each summed over the steps."""
    sums = {"rank": 0.0, "content": 0.0, "embeddings_content": 0.0, "content_embeddings": 0.0}
    for step, best in enumerate(order):
        left = order[step:]
        p, c = plain_probabilities(scores[step], left), plain_probabilities(content[step], left)
        sums["rank"] -= math.log(max(p[best], 1e-300))
        sums["content"] -= math.log(max(c[best], 1e-300))
        for j in left:
            ratio = math.log(max(p[j], 1e-300)) - math.log(max(c[j], 1e-300))
            sums["embeddings_content"] += p[j] * ratio
            sums["content_embeddings"] -= c[j] * ratio
    return sums


def run(loss: RankLoss, scores: Any, content: Any, order: list[int], **options: Any) -> dict[str, float]:
    candidates_BN = torch.ones(1, len(scores), dtype=torch.bool)
    content_BKN = None if content is None else torch.tensor([content])
    terms = loss(torch.tensor([scores]), content_BKN, torch.tensor([order]), candidates_BN, **options)
    return {name: float(term) for name, term in terms.items()}


@settings(deadline=None, max_examples=60)
@given(rows())
def test_sums_over_positions_are_those_of_equations_5_to_7(row: Any) -> None:
    scores, content, order = row
    expected = plain_sums(scores, content, order)
    for direction in ("embeddings_content", "content_embeddings"):
        found = run(RankLoss(direction=direction), scores, content, order)
        assert found["rank"] == pytest.approx(expected["rank"], abs=1e-3, rel=1e-5)
        assert found["content"] == pytest.approx(expected["content"], abs=1e-3, rel=1e-5)
        assert found["kl"] == pytest.approx(expected[direction], abs=1e-3, rel=1e-5)
        total = expected["rank"] + expected["content"] + 0.2 * expected[direction]
        assert found["loss"] == pytest.approx(total, abs=1e-3, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(rows())
def test_the_mean_reduction_is_the_sum_over_the_number_of_steps(row: Any) -> None:
    scores, content, order = row
    sums, means = (run(RankLoss(reduction=r, kl_reduction=r), scores, content, order) for r in ("sum", "mean"))
    for name in ("rank", "content", "kl", "loss"):
        assert means[name] * len(order) == pytest.approx(sums[name], abs=1e-4, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(rows())
def test_the_kl_is_never_negative_and_zero_between_equals(row: Any) -> None:
    scores, content, order = row
    assert run(RankLoss(), scores, content, order)["kl"] >= -1e-5
    assert run(RankLoss(), scores, scores, order)["kl"] == pytest.approx(0, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(rows())
def test_ranked_candidates_have_no_influence(row: Any) -> None:
    scores, content, order = row
    changed = [list(step) for step in scores]
    for step in range(len(order)):
        for ranked in order[:step]:
            changed[step][ranked] = 1e4
    assert run(RankLoss(), changed, content, order) == pytest.approx(run(RankLoss(), scores, content, order), abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(rows(), st.integers(0, 2**32 - 1))
def test_the_order_in_which_candidates_are_listed_has_no_influence(row: Any, seed: int) -> None:
    scores, content, order = row
    places = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed)).tolist()
    listed = [[step[j] for j in places] for step in scores], [[step[j] for j in places] for step in content]
    moved = [places.index(j) for j in order]
    assert run(RankLoss(), *listed, moved) == pytest.approx(run(RankLoss(), scores, content, order), abs=1e-4, rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(rows(), rows(), st.sampled_from(["sum", "mean"]))
def test_a_padded_batch_gives_the_mean_of_its_rows(first: Any, second: Any, reduction: str) -> None:
    width = max(len(first[2]), len(second[2]))
    loss = RankLoss(reduction=reduction, kl_reduction=reduction)
    scores, content, orders, candidates = [], [], [], []
    for row_scores, row_content, order in (first, second):
        n = len(order)
        scores.append(torch.nn.functional.pad(torch.tensor(row_scores), (0, width - n, 0, width - n), value=7.0))
        content.append(torch.nn.functional.pad(torch.tensor(row_content), (0, width - n, 0, width - n), value=-3.0))
        orders.append([*order, *([-1] * (width - n))])
        candidates.append([j < n for j in range(width)])
    batch = loss(torch.stack(scores), torch.stack(content), torch.tensor(orders), torch.tensor(candidates))
    for name, term in batch.items():
        alone = [run(loss, *row)[name] for row in (first, second)]
        assert float(term) == pytest.approx(sum(alone) / 2, abs=1e-3, rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(rows(), st.data())
def test_training_only_the_first_ranks_gives_the_first_steps_of_the_sum(row: Any, data: st.DataObject) -> None:
    scores, _, order = row
    steps = data.draw(st.integers(1, len(order)))
    candidates = torch.ones(1, len(order), dtype=torch.bool)
    logp_BKN = log_probabilities(torch.tensor([scores]), remaining(torch.tensor([order]), candidates))
    whole = listmle(logp_BKN, torch.tensor([order]))[0, :steps].sum()
    first = torch.tensor([scores])[:, :steps], None, torch.tensor([order[:steps]])
    short = RankLoss(content=0, alpha=0)(*first, candidates)
    assert float(short["rank"]) == pytest.approx(float(whole), abs=1e-4, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(rows())
def test_gradients_are_finite_and_vanish_at_masked_entries(row: Any) -> None:
    scores, content, order = row
    inputs = [torch.tensor([m], requires_grad=True) for m in (scores, content)]
    RankLoss()(*inputs, torch.tensor([order]), torch.ones(1, len(order), dtype=torch.bool))["loss"].backward()
    for tensor in inputs:
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        for step in range(len(order)):
            assert tensor.grad[0, step, order[:step]].abs().sum() == 0


def test_masked_entries_contribute_zero_to_the_kl_even_at_minus_infinity() -> None:
    logs = torch.tensor([[[0.0, -torch.inf]]])
    assert kl(logs, logs, torch.tensor([[[True, False]]])).tolist() == [[0.0]]


def gradient_at(parameter: Tensor, loss: RankLoss, scores: Tensor, content: Tensor) -> Tensor | None:
    order, candidates = torch.tensor([[1, 0, 2]]), torch.ones(1, 3, dtype=torch.bool)
    parameter.grad = None
    loss(scores, content, order, candidates)["loss"].backward()
    return parameter.grad


def test_the_teacher_gets_a_gradient_from_the_kl_unless_it_is_detached() -> None:
    torch.manual_seed(0)
    scores, content = torch.randn(1, 3, 3, requires_grad=True), torch.randn(1, 3, 3, requires_grad=True)
    attached = gradient_at(content, RankLoss(rank=0, content=0), scores, content)
    assert attached is not None and attached.abs().sum() > 0
    detached = gradient_at(content, RankLoss(rank=0, content=0, detach_teacher=True), scores, content)
    assert detached is None or detached.abs().sum() == 0
    student = gradient_at(scores, RankLoss(rank=0, content=0, detach_teacher=True), scores, content)
    assert student is not None and student.abs().sum() > 0


def test_the_first_rank_can_weigh_more() -> None:
    scores, order = [[0.0, 1.0], [5.0, 0.0]], [0, 1]
    plain = RankLoss(content=0, alpha=0)
    first = math.log(1 + math.e)  # the second step is certain
    assert run(plain, scores, None, order)["rank"] == pytest.approx(first, rel=1e-6)
    heavy = RankLoss(content=0, alpha=0, first_weight=3.0)
    assert run(heavy, scores, None, order)["rank"] == pytest.approx(3 * first, rel=1e-6)
    mean = RankLoss(content=0, alpha=0, first_weight=3.0, reduction="mean")
    assert run(mean, scores, None, order)["rank"] == pytest.approx(3 * first / 4, rel=1e-6)


def test_half_precision_scores_are_turned_to_fp32_before_the_softmax() -> None:
    scores = torch.tensor([[[10.0, 10.0625], [0.0, 0.0]]], dtype=torch.bfloat16)
    logs = log_probabilities(scores, torch.ones(1, 2, 2, dtype=torch.bool))
    assert logs.dtype == torch.float32
    assert float(logs[0, 0, 0]) == pytest.approx(-math.log(1 + math.exp(0.0625)), abs=1e-6)


def test_row_e_of_table_4_keeps_the_kl_without_the_content_loss() -> None:
    loss = RankLoss(content=0)
    assert loss.needs_content
    with pytest.raises(ValueError, match="prompt with texts"):
        run(loss, [[0.0]], None, [0])


def test_reconstruction_is_the_mean_over_the_target_tokens_of_the_batch() -> None:
    logits = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 9.0]]])
    targets = torch.tensor([[0, 1], [-100, -100]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert float(reconstruction(logits, targets)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("options", [{"reduction": "max"}, {"kl_reduction": "none"}, {"direction": "both"}])
def test_an_unknown_option_is_refused_by_name(options: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=next(iter(options.values()))):
        RankLoss(**options)  # type: ignore[arg-type]


def test_the_authors_raw_scores_give_the_authors_plain_sum(shared: Path) -> None:
    row = read_json(shared / "fixtures" / "pe_rank" / "expected.json")["stage2"]["rows"][0]
    found = run(RankLoss(content=0, alpha=0), row["raw_logits_wo_content"], None, row["ranking"])
    assert found["rank"] == pytest.approx(row["plain_sums"]["L_rank"], abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(SCORES, st.floats(-1, 1, width=32), st.booleans()), min_size=1, max_size=9), st.floats(0.02, 2)
)
def test_distillation_is_the_kl_from_the_encoders_softmax_over_the_passages_that_are_there(
    passages: list[tuple[float, float, bool]], temperature: float
) -> None:
    passages = [*passages, (0.5, 0.25, True)]
    scores, similarities, there = zip(*passages, strict=True)
    left = [j for j, here in enumerate(there) if here]
    p = plain_probabilities([s / temperature for s in similarities], left)
    q = plain_probabilities(list(scores), left)
    expected = sum(p[j] * (math.log(max(p[j], 1e-300)) - math.log(max(q[j], 1e-300))) for j in left if p[j] > 0)
    found = distillation(torch.tensor([[scores]]), torch.tensor([similarities]), torch.tensor([[there]]), temperature)
    assert float(found) == pytest.approx(expected, abs=1e-3, rel=1e-4)


def test_a_feedback_below_zero_is_refused() -> None:
    with pytest.raises(BadInput, match=r"loss\.feedback"):
        RankLoss(distil=1.0, feedback=(0.1, -0.1))
    with pytest.raises(BadInput, match="nothing is distilled"):
        RankLoss(feedback=(0.1,))


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(BadInput, match="temperature"):
        RankLoss(temperature=0.0)
