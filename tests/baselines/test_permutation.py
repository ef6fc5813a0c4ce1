"""Whatever an LLM writes becomes a permutation, and what had to be mended is counted."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.baselines.permutation import Repairs, permutation, ranked_so_far

PIECES = st.sampled_from(
    [
        "[",
        "]",
        " > ",
        ">",
        "\n",
        ", ",
        "1",
        "2",
        "12",
        "20",
        "007",
        "Passage ",
        ". ",
        "1. ",
        "</think>",
        "0.5",
        "٣",
        " ",
    ]
)
ANYTHING = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=40).map("".join))


def ranked(order: list[int]) -> str:
    return " > ".join(f"[{position + 1}]" for position in order)


@given(ANYTHING, st.integers(0, 25))
def test_any_text_gives_a_permutation(text: str, n: int) -> None:
    assert sorted(permutation(text, n).order) == list(range(n))


@given(st.permutations(list(range(12))))
def test_a_well_formed_answer_is_taken_as_it_is(order: list[int]) -> None:
    found = permutation(ranked(order), 12)
    assert found.order == tuple(order)
    assert found.repairs == Repairs()


@given(st.lists(st.integers(-3, 15), min_size=1, max_size=30), st.integers(1, 12))
def test_repairs_add_up(numbers: list[int], n: int) -> None:
    written = [abs(number) for number in numbers]
    found = permutation(" > ".join(f"[{number}]" for number in written), n)
    inside = [number for number in written if 1 <= number <= n]
    assert found.repairs.out_of_range == len(written) - len(inside)
    assert found.repairs.repeated == len(inside) - len(set(inside))
    assert found.repairs.missing == n - len(set(inside))
    named = [number - 1 for number in dict.fromkeys(inside)]
    assert list(found.order) == named + [i for i in range(n) if i not in named]


@given(ANYTHING, ANYTHING, st.integers(1, 20))
def test_what_is_ranked_so_far_stays_in_front_whatever_follows(text: str, more: str, n: int) -> None:
    sure = ranked_so_far(text, n)
    complete = text[: text.rfind("]") + 1]
    assert permutation(text + more, n).order[:sure] == permutation(complete, n).order[:sure]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), ANYTHING)
def test_a_clean_beginning_settles_its_ranks(numbers: list[int], more: str) -> None:
    text = " > ".join(f"[{number}]" for number in numbers)
    distinct = [number - 1 for number in dict.fromkeys(numbers)]
    assert ranked_so_far(text, 20) == len(distinct)
    assert list(permutation(text + more, 20).order[: len(distinct)]) == distinct


def test_an_identifier_counts_when_its_bracket_is_closed() -> None:
    assert [ranked_so_far(text, 20) for text in ("[1", "[12", "[12]", "[12] > [1", "[12] > [1]")] == [0, 0, 1, 1, 2]
    assert ranked_so_far("Sure! [1] > [2]", 20) == 0


WRITTEN = [  # what LLMs have been seen to write for five passages asked as [2] > [1] > ..., and what they meant
    ("[2] > [1] > [3] > [5] > [4]", [2, 1, 3, 5, 4]),
    ("[2] > [1] > [3] > [5] > [4].", [2, 1, 3, 5, 4]),
    ("[2]>[1]>[3]>[5]>[4]", [2, 1, 3, 5, 4]),
    ("[2] >\n[1] >\n[3] >\n[5] >\n[4]\n", [2, 1, 3, 5, 4]),
    ("Sure! Here is the ranking:\n\n[2] > [1] > [3] > [5] > [4]\n\nI hope this helps.", [2, 1, 3, 5, 4]),
    ("2 > 1 > 3 > 5 > 4", [2, 1, 3, 5, 4]),
    ("Ranking: 2 > 1 > 3 > 5 > 4", [2, 1, 3, 5, 4]),
    ("[2], [1], [3], [5], [4]", [2, 1, 3, 5, 4]),
    ("[2, 1, 3, 5, 4]", [2, 1, 3, 5, 4]),
    ('{"ranking": [2, 1, 3, 5, 4]}', [2, 1, 3, 5, 4]),
    ("2, 1, 3, 5, 4", [2, 1, 3, 5, 4]),
    ("[Passage 2] > [Passage 1] > [Passage 3] > [Passage 5] > [Passage 4]", [2, 1, 3, 5, 4]),
    ("Passage 2 > Passage 1 > Passage 3 > Passage 5 > Passage 4", [2, 1, 3, 5, 4]),
    ("**[2]** > **[1]** > **[3]** > **[5]** > **[4]**", [2, 1, 3, 5, 4]),
    ("`[2] > [1] > [3] > [5] > [4]`", [2, 1, 3, 5, 4]),
    ("[[2]] > [[1]] > [[3]] > [[5]] > [[4]]", [2, 1, 3, 5, 4]),
    ("(2) > (1) > (3) > (5) > (4)", [2, 1, 3, 5, 4]),
    ("1. [2]\n2. [1]\n3. [3]\n4. [5]\n5. [4]", [2, 1, 3, 5, 4]),
    ("1. Passage 2\n2. Passage 1\n3. Passage 3\n4. Passage 5\n5. Passage 4", [2, 1, 3, 5, 4]),
    ("1) 2\n2) 1\n3) 3\n4) 5\n5) 4", [2, 1, 3, 5, 4]),
    ("2.\n1.\n3.\n5.\n4.", [2, 1, 3, 5, 4]),
    ("2\n1\n3\n5\n4", [2, 1, 3, 5, 4]),
    ("The most relevant passage is [2], as it answers the query. [1] and [3] are related.", [2, 1, 3, 4, 5]),
    ("I compared [3] with [1] first.\nFinal ranking: [2] > [1] > [3] > [5] > [4]", [2, 1, 3, 5, 4]),
    ("<think>[4] looks good, so [4] > [5]?</think>\n[2] > [1] > [3] > [5] > [4]", [2, 1, 3, 5, 4]),
    ("[2] > [1] > [3", [2, 1, 3, 4, 5]),
    ("[2] > [1] > [1] > [1] > [1]", [2, 1, 3, 4, 5]),
    ("[2] > [1] > [9] > [0] > [3]", [2, 1, 3, 4, 5]),
    ("[2] > [1]\n\nSearch Query: how many. Rank the 5 passages above", [2, 1, 3, 4, 5]),
    ("[2] &gt; [1] &gt; [3] &gt; [5] &gt; [4]", [2, 1, 3, 5, 4]),
    ("[2] > [1] > 3 > 5 > 4", [2, 1, 3, 5, 4]),
    ("[2] > [1], [3] > [5] > [4]", [2, 1, 3, 5, 4]),
    ("Passage 2: 0.95, Passage 1: 0.90, Passage 3: 0.12", [2, 1, 3, 4, 5]),
    ("[\uff12] > [\uff11] > [\uff13] > [\uff15] > [\uff14]", [2, 1, 3, 5, 4]),
    ("I'm sorry, but I can't rank these passages.", [1, 2, 3, 4, 5]),
    ("[] > [] > [] > [] > []", [1, 2, 3, 4, 5]),
    ("[99999999999999999999999999] > [2]", [2, 1, 3, 4, 5]),
    ("", [1, 2, 3, 4, 5]),
]


@pytest.mark.parametrize(("text", "meant"), WRITTEN)
def test_what_llms_write_is_understood(text: str, meant: list[int]) -> None:
    assert [position + 1 for position in permutation(text, 5).order] == meant


def test_ranks_that_nobody_asked_for_are_not_missing() -> None:
    assert permutation("[3] > [1]", 5, asked=2).repairs == Repairs()
    assert permutation("[3] > [1]", 5).repairs == Repairs(missing=3)


def test_an_answer_in_other_words_is_one_repair() -> None:
    assert permutation("2, 1", 2).repairs == Repairs(rephrased=1)
    assert Repairs(missing=1, repeated=2, rephrased=1).total == 4


@pytest.mark.parametrize("piece", [" ", "[", "1 ", "[1 ", "> ", "[1] > ", "1. ", "(", "\n", "passage ", "*"])
def test_a_lost_llms_endless_answer_is_read_in_no_time(piece: str) -> None:
    began = time.process_time()
    permutation(piece * 20_000, 20)
    assert time.process_time() - began < 5
