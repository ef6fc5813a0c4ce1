"""Wikipedia passages in both published forms; broken lines are refused with their place when they are asked for."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.records import Passage
from perank.sources.wikipedia import wikipedia_lines

HEADER = "id\ttext\ttitle\n"


def test_atlas_json_lines_give_title_and_section(tmp_path: Path) -> None:
    rows = [
        {"id": "7", "title": "Otter", "section": "Behaviour", "text": "They hold hands."},
        {"id": 8, "title": "Otter", "section": "", "text": "An animal."},
        {"id": "9", "title": "Rain", "text": "It falls."},
    ]
    path = tmp_path / "text-list-100-sec.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert [line.passage for line in wikipedia_lines([path])] == [
        Passage("7", "They hold hands.", "Otter: Behaviour"),
        Passage("8", "An animal.", "Otter"),
        Passage("9", "It falls.", "Rain"),
    ]


def test_dprs_table_is_read_with_its_quotes(tmp_path: Path) -> None:
    path = tmp_path / "psgs_w100.tsv"
    path.write_text(HEADER + '1\t"Aaron said ""Let us go"" and\'s gone"\tAaron\n2\tplain\t"A ""B"""\n')
    assert [line.passage for line in wikipedia_lines([path])] == [
        Passage("1", 'Aaron said "Let us go" and\'s gone', "Aaron"),
        Passage("2", "plain", 'A "B"'),
    ]


def test_files_read_together_keep_their_ids_apart(tmp_path: Path) -> None:
    for name in ("text.jsonl", "infobox.jsonl"):
        (tmp_path / name).write_text('{"id": "1", "title": "A", "text": "x"}\n')
    found = [line.passage.id for line in wikipedia_lines([tmp_path / "text.jsonl", tmp_path / "infobox.jsonl"])]
    assert found == ["text:1", "infobox:1"]


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("a.jsonl", "{", "not JSON"),
        ("a.jsonl", "[]", "expected a JSON object"),
        ("a.jsonl", '{"title": "A", "text": "x"}', "expected text in 'id'"),
        ("a.jsonl", '{"id": "1", "title": 3, "text": "x"}', "expected text in 'title'"),
        ("a.jsonl", '{"id": "1", "title": "A", "text": " "}', "the passage is empty"),
        ("a.jsonl", '{"id": " ", "text": "x"}', "the id is empty"),
        ("a.tsv", "1\tonly two", "expected 3 columns"),
        ("a.tsv", "1\t\tA", "the passage is empty"),
    ],
)
def test_a_broken_line_is_refused_with_its_place(tmp_path: Path, name: str, line: str, said: str) -> None:
    path = tmp_path / name
    first = HEADER if name.endswith("tsv") else '{"id": "0", "title": "", "text": "fine"}\n'
    path.write_text(first + line + "\n")
    broken = list(wikipedia_lines([path]))[-1]
    with pytest.raises(BadInput, match=said) as caught:
        _ = broken.passage
    assert (caught.value.path, caught.value.line) == (path, 2)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("1\tno header\tA\n")
    with pytest.raises(BadInput, match="expected the header id text title"):
        list(wikipedia_lines([path]))
    with pytest.raises(BadInput, match=r"neither \.jsonl nor \.tsv"):
        list(wikipedia_lines([tmp_path / "wiki.txt"]))
