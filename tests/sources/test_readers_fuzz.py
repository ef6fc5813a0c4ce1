"""Whatever bytes come, a reader gives records or `BadInput`; no other exception, and nothing silently lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.sources.beir import read_beir_qrels
from perank.sources.texts import read_passages, read_queries
from perank.sources.trec import read_qrels, read_run

SEEDS: dict[Callable[[Path], Any], tuple[str, bytes]] = {
    read_run: ("run.trec", b"q1 Q0 a 1 2.5 t\nq1 Q0 b 2 1.5 t\nq2 Q0 a 1 9 t\n"),
    read_qrels: ("qrels.txt", b"q1 0 a 1\nq1 0 b -1\nq2 0 a 3\n"),
    read_beir_qrels: ("test.tsv", b"query-id\tcorpus-id\tscore\nq1\ta\t1\nq2\tb\t0\n"),
    read_queries: ("queries.tsv", b"q1\tone\nq2\ttwo words\n"),
    read_passages: ("corpus.jsonl", b'{"_id": "a", "text": "one", "title": "T"}\n{"_id": "b", "text": ""}\n'),
}
PIECES = [b"\n", b"\t", b" ", b"\r", b"\x00", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"nan", b"1e999", b"-", b"\\ud800"]
PIECES += [
    b'"',
    b"{}",
    b"[]",
    b"null",
    b"1",
    b"\xe2\x80\xa8",
    b"\x0c",
    b"\x1c",
    b'{"_id": "c", "text": "x"}\n',
    b"q3\tx\n",
]


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    content = seed
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 12)))
        content = content[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + content[end:]
    return content


def read_or_refuse(reader: Callable[[Path], Any], path: Path) -> Any:
    try:
        return reader(path)
    except BadInput as error:
        assert error.path == path
        assert error.remedy
        return None


@pytest.mark.parametrize("reader", SEEDS, ids=lambda reader: reader.__name__)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(data=st.data())
def test_mutated_files_are_read_or_refused_and_no_line_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reader: Callable[[Path], Any], data: st.DataObject
) -> None:
    caplog.clear()
    name, seed = SEEDS[reader]
    content = data.draw(mutated(seed) | st.binary(max_size=60))
    (tmp_path / name).write_bytes(content)
    found = read_or_refuse(reader, tmp_path / name)
    if found is not None:
        rows = [line for line in content.decode("utf-8").split("\n") if line.strip()]
        nested = any(isinstance(value, dict) for value in found.values())
        records = sum(map(len, found.values())) if nested else len(found)
        given = len(rows) - (reader is read_beir_qrels and bool(rows))
        assert records + int((re.findall(r": (\d+) lines repeat", caplog.text) or ["0"])[-1]) == given


@pytest.mark.parametrize("reader", SEEDS, ids=lambda reader: reader.__name__)
def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BadInput) as caught:
            reader(path)
        assert caught.value.path == path
