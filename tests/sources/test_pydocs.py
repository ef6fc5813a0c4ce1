"""The built-in collection, made from a toy package; the real one in a slow test."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from perank.errors import BadInput
from perank.sources import pydocs, pydocs_build
from perank.sources.docstrings import Pair
from perank.sources.pydocs import PyDocs
from perank.sources.pydocs_build import assign_splits, merge

VERSIONS = {"perank_toy": "1.0"}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with 200 documented functions and a file that doesn't parse, in place of the installed packages."""
    package = tmp_path / "site" / "perank_toy"
    package.mkdir(parents=True)
    text = "alpha beta gamma delta epsilon zeta eta theta iota kappa " * 3
    functions = [f'def f{i}():\n    """Compute the thing number {i}. {text}{i}"""\n' for i in range(200)]
    (package / "__init__.py").write_text("".join(functions))
    (package / "broken.py").write_text("def (")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for module in (pydocs, pydocs_build):
        monkeypatch.setattr(module, "package_versions", lambda: VERSIONS)
    return package


def test_splits_share_the_corpus_and_no_query(toy: Path) -> None:
    splits = {split: PyDocs(split) for split in ("train", "dev", "test")}
    ids = Counter(id for collection in splits.values() for id in collection.queries)
    assert len(ids) == 200
    assert set(ids.values()) == {1}
    assert len(splits["train"].queries) > 120
    assert all(list(c.passages) == list(splits["test"].passages) for c in splits.values())
    for collection in splits.values():
        assert list(collection.qrels) == list(collection.queries)
        assert all(p in collection.passages for grades in collection.qrels.values() for p in grades)


def test_query_and_passage_belong_together_and_the_name_stays_out_of_the_texts(toy: Path) -> None:
    collection = PyDocs("train")
    (id, query), *_ = collection.queries.items()
    (passage_id,) = collection.qrels[id]
    passage = collection.passages[passage_id]
    assert id == f"q:{passage_id}"
    assert query.text.removesuffix(".").split()[-1] == passage.text.split()[-1]
    assert passage.title == ""
    assert "perank_toy" not in passage.contents


def test_the_manifest_tells_versions_counts_and_unreadable_files(toy: Path) -> None:
    manifest = PyDocs().manifest
    assert manifest["packages"] == VERSIONS
    assert manifest["pairs_by_package"] == {"perank_toy": 200}
    assert manifest["unreadable_files"] == 1
    assert sum(manifest["queries"].values()) == manifest["passages"] == 200
    assert manifest["missing"] == list(pydocs_build.PACKAGES)


def test_two_builds_are_equal_to_the_byte(toy: Path, tmp_path: Path) -> None:
    first, second = (PyDocs(folder=tmp_path / name).folder for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 6
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_a_whole_collection_is_not_built_again(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = PyDocs().passages
    monkeypatch.setattr(pydocs, "build", lambda *_: pytest.fail("built again"))
    assert PyDocs().passages == expected


@pytest.mark.parametrize("damage", ["corpus.jsonl", "qrels/test.tsv", "manifest.json"])
@pytest.mark.parametrize("how", ["cut", "removed"])
def test_a_damaged_cache_is_built_again(toy: Path, damage: str, how: str) -> None:
    folder = PyDocs().folder
    whole = (folder / damage).read_bytes()
    if how == "cut":
        (folder / damage).write_bytes(whole[:-10])
    else:
        (folder / damage).unlink()
    assert len(PyDocs().passages) == 200
    assert (folder / damage).read_bytes() == whole


def test_an_interrupted_build_leaves_nothing_that_passes_for_whole(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pydocs_build, "assign_splits", stop)
        with pytest.raises(KeyboardInterrupt):
            PyDocs().folder  # noqa: B018
    assert len(PyDocs().passages) == 200


def test_a_copied_folder_is_used_as_it_is_whatever_is_installed(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PyDocs(folder=tmp_path / "kept").folder  # noqa: B018
    monkeypatch.setattr(pydocs, "package_versions", lambda: {"perank_toy": "2.0"})
    assert len(PyDocs(folder=tmp_path / "kept").passages) == 200
    (tmp_path / "kept" / "corpus.jsonl").write_text("")
    with pytest.raises(BadInput, match="was built from other packages"):
        PyDocs(folder=tmp_path / "kept").folder  # noqa: B018


def test_a_folder_with_other_things_in_it_is_left_alone(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "corpus.jsonl").write_text("precious")
    with pytest.raises(BadInput, match="no pydocs collection"):
        PyDocs(folder=tmp_path / "mine").folder  # noqa: B018
    assert (tmp_path / "mine" / "corpus.jsonl").read_text() == "precious"


def test_a_limit_takes_the_same_passages_for_every_split_and_only_their_queries(toy: Path) -> None:
    small = {split: PyDocs(split, limit=50) for split in ("train", "dev", "test")}
    passages = set(small["test"].passages)
    assert len(passages) == 50
    assert all(set(collection.passages) == passages for collection in small.values())
    judged = [p for collection in small.values() for grades in collection.qrels.values() for p in grades]
    assert sorted(judged) == sorted(passages)
    assert passages < set(PyDocs(limit=80).passages)
    assert small["test"].name == "pydocs-test-50"


def test_unknown_splits_and_limits_below_one_are_refused() -> None:
    with pytest.raises(BadInput, match="'all'"):
        PyDocs("all")
    with pytest.raises(BadInput, match="at least 1"):
        PyDocs(limit=0)


def test_equal_texts_are_merged() -> None:
    pairs = [
        ("p", Pair("a", "How to sort?", "One text.")),
        ("p", Pair("b", "How to order?", "ONE  text")),
        ("p", Pair("c", "how to SORT", "Another text.")),
        ("p", Pair("c", "And again.", "A third text.")),
    ]
    passages, queries, relevant = merge(pairs)
    assert passages == {"a": "One text.", "c": "Another text.", "c#2": "A third text."}
    assert queries == {"q:a": "How to sort?", "q:b": "How to order?", "q:c#2": "And again."}
    assert relevant == {"q:a": ["a", "c"], "q:b": ["a"], "q:c#2": ["c#2"]}


def test_queries_that_hang_together_share_a_split() -> None:
    chain = {f"q{i}": [f"p{i}", f"p{i + 1}"] for i in range(100)}
    lone = {f"r{i}": [f"s{i}"] for i in range(1000)}
    splits = assign_splits(chain | lone)
    assert list(splits) == list(chain | lone)
    assert len({splits[id] for id in chain}) == 1
    shares = Counter(splits[id] for id in lone)
    assert 750 < shares["train"] < 850
    assert 60 < shares["dev"] < 140


@pytest.mark.slow
def test_the_installed_packages_give_at_least_6000_pairs_without_being_imported() -> None:
    before = set(sys.modules)
    manifest = PyDocs().manifest
    assert manifest["pairs"] >= 6000
    assert not {name.split(".")[0] for name in set(sys.modules) - before} & {"torch", "pandas", "networkx", "scipy"}
    assert json.loads(json.dumps(manifest))["queries"]["test"] >= 200
