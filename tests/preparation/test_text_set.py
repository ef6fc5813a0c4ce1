"""A sample of texts depends on lines and seed alone: not on chunks, and not on interruptions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.errors import BadInput
from perank.preparation.resumable import Resumable
from perank.preparation.text_set import sample_texts, source_digest
from perank.sources.texts import read_passages


def source(folder: Path, count: int = 40) -> Path:
    path = folder / "wiki.jsonl"
    rows = ({"id": str(i), "title": f"T{i}", "section": "", "text": f"text {i}"} for i in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sample(path: Path, output: Path, **settings: int) -> list[str]:
    options = {"rows": 10, "chunk": 7, **settings}
    manifest = sample_texts([path], Resumable(output, "x"), progress=False, **options)
    passages = read_passages(output)
    assert manifest["passages"] == len(passages)
    assert all(passage.text == f"text {id}" and passage.title == f"T{id}" for id, passage in passages.items())
    return list(passages)


@given(chunk=st.integers(1, 50), rows=st.integers(1, 45))
def test_the_sample_is_the_same_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, rows: int
) -> None:
    folder = tmp_path_factory.mktemp("wiki")
    path = source(folder)
    kept = sample(path, folder / "a", rows=rows, chunk=chunk)
    assert kept == sample(path, folder / "b", rows=rows, chunk=40)
    assert len(kept) == min(rows, 40)
    assert kept == sorted(kept, key=int)


def test_a_larger_sample_holds_the_smaller_one_and_another_seed_gives_another(tmp_path: Path) -> None:
    path = source(tmp_path)
    ten, twenty = sample(path, tmp_path / "a"), sample(path, tmp_path / "b", rows=20)
    assert set(ten) < set(twenty)
    assert set(sample(path, tmp_path / "c", seed=1)) != set(ten)
    assert max(map(int, sample(path, tmp_path / "d", limit=12))) < 12


@pytest.mark.parametrize("lost", ["hashes-00000.npy", "hashes-00005.npy", "texts-00002.json"])
def test_finished_chunks_are_kept_and_missing_ones_made_again(tmp_path: Path, lost: str) -> None:
    path, output = source(tmp_path), tmp_path / "corpus.jsonl"
    sample(path, output)
    whole = output.read_bytes()
    parts = {file.name: file.stat().st_mtime_ns for file in (tmp_path / ".corpus.jsonl.x").iterdir()}
    (tmp_path / ".corpus.jsonl.x" / lost).unlink()
    sample(path, output)
    assert output.read_bytes() == whole
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / ".corpus.jsonl.x").iterdir()}
    assert {name for name in parts if parts[name] != after[name]} == {lost}


def test_an_id_used_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    path = source(tmp_path)
    path.write_text(path.read_text() + '{"id": "3", "title": "", "text": "again"}\n')
    with pytest.raises(BadInput, match="used before") as caught:
        sample(path, tmp_path / "out", rows=41)
    assert (caught.value.line, caught.value.id) == (41, "3")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"rows": 0}, {"limit": 0}, {"chunk": 0}], ids=str)
def test_numbers_below_one_are_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="use 1 or more"):
        sample(source(tmp_path), tmp_path / "out", **settings)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no passages"):
        sample(source(tmp_path, 0), tmp_path / "out")


def test_sources_are_told_apart_by_name_size_and_content(tmp_path: Path) -> None:
    path = source(tmp_path)
    before = source_digest([path])
    path.write_text(path.read_text().replace("text 7", "text 8"))
    assert source_digest([path]) != before
    with pytest.raises(BadInput, match="no such file"):
        source_digest([tmp_path / "none.jsonl"])
