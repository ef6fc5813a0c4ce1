"""The paired t-test against its formula, an integral of Student's density, and a published pair of runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.evaluation.metrics import measure
from perank.evaluation.significance import paired_t_test
from perank.sources.trec import read_qrels, read_run


def scores(*values: float) -> dict[str, float]:
    return {f"q{i}": value for i, value in enumerate(values)}


def two_sided_p(t: float, df: int) -> float:
    """1 minus the integral of Student's density over [-|t|, |t|], by Simpson's rule."""
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    n, upper = 2000, abs(t)
    step = upper / n
    density = [scale * (1 + (i * step) ** 2 / df) ** (-(df + 1) / 2) for i in range(n + 1)]
    inside = step / 3 * (density[0] + density[-1] + 4 * sum(density[1:-1:2]) + 2 * sum(density[2:-1:2]))
    return 1 - 2 * inside


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=3, max_size=30))
def test_t_and_p_are_those_of_students_formula(pairs: list[tuple[int, int]]):
    a, b = scores(*(x / 100 for x, _ in pairs)), scores(*(y / 100 for _, y in pairs))
    differences = [(x - y) / 100 for x, y in pairs]
    n, mean = len(pairs), sum(differences) / len(pairs)
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    test = paired_t_test(a, b)
    assert (test.n, test.df, test.mean_difference) == (n, n - 1, pytest.approx(mean, abs=1e-12))
    if len({x - y for x, y in pairs}) > 1:
        assert test.t == pytest.approx(mean / math.sqrt(variance / n), abs=1e-9)
        assert test.p == pytest.approx(two_sided_p(test.t, test.df), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=10), st.randoms())
def test_the_order_of_queries_changes_nothing_and_swapping_sides_flips_the_sign(pairs, random):
    a, b = scores(*(x for x, _ in pairs)), scores(*(y for _, y in pairs))
    ids = random.sample(list(b), len(b))
    forward, backward = paired_t_test(a, b), paired_t_test({id: b[id] for id in ids}, {id: a[id] for id in ids})
    assert backward.t == pytest.approx(-forward.t) and backward.p == pytest.approx(forward.p)
    assert 0 <= forward.p <= 1


def test_equal_scores_give_p_1():
    test = paired_t_test(scores(0.1, 0.2, 0.3), scores(0.1, 0.2, 0.3))
    assert (test.t, test.p, test.mean_difference) == (0.0, 1.0, 0.0)


def test_differences_in_the_last_bit_are_no_differences():
    assert paired_t_test(scores(0.1 + 0.2, 0.5, 0.7), scores(0.3, 0.5, 0.7)).p == 1.0


def test_the_same_difference_everywhere_gives_p_0():
    test = paired_t_test(scores(0.1, 0.2, 0.3), scores(0.2, 0.3, 0.4))
    assert (test.t, test.p) == (-math.inf, 0.0)
    assert test.mean_difference == pytest.approx(-0.1)


def test_different_queries_are_refused_naming_some():
    with pytest.raises(BadInput, match="2 are on one side only: extra, q1"):
        paired_t_test(scores(0.1, 0.2), {"q0": 0.1, "extra": 0.3})


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_queries_are_refused(n: int):
    with pytest.raises(BadInput, match=f"found {n}"):
        paired_t_test(scores(*[0.5] * n), scores(*[0.5] * n))


def test_rankmistral_beats_rankvicuna_on_dl19_by_the_published_margin(shared: Path):
    runs = shared / "collections/runs"
    mistral = runs / "fullrank__dl19__RankMistral100_top100_passnum=1.txt"
    vicuna = runs / ("BM25__output_v2_aug_vicuna_7b_4096_100_PromptMode.RANK_GPT_dl19_2023-09-13T163610.051205.txt")
    if not (mistral.is_file() and vicuna.is_file()):
        pytest.skip(f"the two runs aren't under {runs}")
    qrels = read_qrels(shared / "collections/trecdl/dl19/qrels.txt")
    first, second = (measure(qrels, read_run(path), ["ndcg@10"])["ndcg@10"] for path in (mistral, vicuna))
    test = paired_t_test(first, second)
    assert (f"{test.t:.4f}", test.df, f"{test.p:.5f}") == ("2.7142", 42, "0.00960")
