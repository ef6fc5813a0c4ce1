"""What a ranking looks like when it is printed."""

from __future__ import annotations

from perank.records import Candidates, Passage, Query, Ranking


def ranking(n: int, text: str = "a sea otter holds hands", id: str = "d", query: str = "which otter") -> Ranking:
    """n passages, the last candidate first."""
    passages = tuple(Passage(f"{id}{i}", f"{text} {i}") for i in range(n))
    return Ranking(Candidates(Query("q", query), passages), tuple(reversed(range(n))))


def test_a_printed_ranking_is_a_table_of_rank_id_and_first_words() -> None:
    assert str(ranking(3)).splitlines() == [
        "rank  id  passage",
        "   1  d2  a sea otter holds hands 2",
        "   2  d1  a sea otter holds hands 1",
        "   3  d0  a sea otter holds hands 0",
    ]


def test_ten_ranks_are_printed_and_the_others_counted() -> None:
    lines = str(ranking(100)).splitlines()
    assert len(lines) == 1 + 10 + 1
    assert lines[10].split()[:2] == ["10", "d90"]
    assert lines[11] == "... and 90 more"
    assert len(str(ranking(10)).splitlines()) == 11


def test_long_texts_and_line_breaks_take_one_line_of_a_terminal() -> None:
    for line in str(ranking(30, text="two\nlines " * 500, id="https://example.org/" * 5)).splitlines():
        assert len(line) <= 80


def test_passages_without_a_text_and_no_passages_at_all_are_printed_too() -> None:
    nothing = Candidates(Query("", "which otter"), (Passage("0", ""), Passage("1", "")))
    assert str(Ranking(nothing, (1, 0))).splitlines()[1:] == ["   1  1", "   2  0"]
    assert str(ranking(0)) == "rank  id  passage"


def test_in_a_list_a_ranking_is_one_short_line() -> None:
    assert repr(ranking(100)) == "<Ranking of 100 passages for 'which otter': d99, d98, d97, ...>"
    assert repr(ranking(2)) == "<Ranking of 2 passages for 'which otter': d1, d0>"
    assert len(repr(ranking(2, query="word " * 1000))) < 100
