"""Docstrings become pairs without importing anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.sources.docstrings import pairs_in, source_files, source_folder, split_docstring

REST = "It goes on with words about this and that, " + "and more of them " * 6 + "until there are enough."


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_first_sentence_is_the_query_and_the_rest_the_passage() -> None:
    assert split_docstring(f"Sort the given   numbers\nquickly. {REST}\n\nMore here.") == (
        "Sort the given numbers quickly.",
        f"{REST} More here.",
    )


def test_a_summary_without_a_full_stop_ends_with_its_paragraph() -> None:
    assert split_docstring(f"Sort the given numbers\n\n{REST}") == ("Sort the given numbers", REST)


def test_abbreviations_do_not_end_a_sentence() -> None:
    found = split_docstring(f"Read a file, e.g. one of numbers, into memory. {REST}")
    assert found is not None
    assert found[0] == "Read a file, e.g. one of numbers, into memory."


@pytest.mark.parametrize("summary", ["Too short here.", " ".join(["word"] * 26) + "."])
def test_queries_have_4_to_25_words(summary: str) -> None:
    assert split_docstring(f"{summary} {REST}") is None


@pytest.mark.parametrize(("words", "kept"), [(24, False), (25, True)])
def test_passages_have_25_words_or_more(words: int, kept: bool) -> None:
    assert (split_docstring("Here are four words.\n\n" + "word " * words) is not None) is kept


def test_markup_is_lightened() -> None:
    found = split_docstring(f"Call :meth:`~a.b.Thing.run` on ``x`` now.\n\nNotes\n-----\n{REST}\n=======")
    assert found == ("Call a.b.Thing.run on `x` now.", f"Notes {REST}")


def test_only_what_a_user_can_reach_counts(tmp_path: Path) -> None:
    documented = f'"""Say something about it here. {REST}"""'
    path = write(
        tmp_path / "m.py",
        f"""{documented}
import a_package_that_does_not_exist
def shown():
    {documented}
    def inside():
        {documented}
def _hidden():
    {documented}
class Shown:
    {documented}
    async def method(self):
        {documented}
    def _method(self):
        {documented}
try:
    def tried():
        {documented}
except ImportError:
    class Fallback:
        {documented}
""",
    )
    names = [pair.name for pair in pairs_in("pack.m", path)]
    assert names == ["pack.m", "pack.m.shown", "pack.m.Shown", "pack.m.Shown.method", "pack.m.tried", "pack.m.Fallback"]


def test_half_a_surrogate_pair_never_gets_out(tmp_path: Path) -> None:
    (pair,) = pairs_in("m", write(tmp_path / "m.py", f'"""Say what surrogates are. \\ud800 {REST}"""'))
    assert pair.passage == f"? {REST}"


def test_a_file_in_another_encoding_is_read_by_its_own_declaration(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_bytes(f'# coding: latin-1\n"""Über alles ein Wort. {REST}"""'.encode("latin-1"))
    assert pairs_in("m", path)[0].query == "Über alles ein Wort."


def test_packages_are_found_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "perank_toy" / "__init__.py", "raise RuntimeError('imported')")
    write(tmp_path / "perank_toy" / "sub" / "b.py", "")
    write(tmp_path / "perank_toy" / "sub" / "tests" / "test_b.py", "")
    write(tmp_path / "perank_toy" / "models" / "c.py", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = source_files("perank_toy", frozenset({"tests", "perank_toy/models"}))
    assert [name for name, _ in found] == ["perank_toy", "perank_toy.sub.b"]


def test_a_missing_package_and_a_bare_folder_are_no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perank_bare").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert source_folder("perank_no_such_package") is None
    assert source_folder("perank_bare") is None
    assert source_files("perank_bare", frozenset()) == []


def test_the_standard_library_is_found() -> None:
    folder = source_folder("stdlib")
    assert folder is not None
    assert (folder / "json" / "__init__.py").is_file()
