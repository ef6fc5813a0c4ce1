"""A tiny reranker, five texts, and their ranking: what every adapter has to give back in its library's form."""

from __future__ import annotations

import pytest

from perank import Reranker
from support import tiny
from support.fake_encoders import HashEncoder

QUERY = tiny.QUERY.text
TEXTS = [passage.text for passage in tiny.PASSAGES]
IDS = [passage.id for passage in tiny.PASSAGES]


@pytest.fixture(scope="package")
def reranker() -> Reranker:
    return Reranker(tiny.tiny_model(3), tiny.tiny_prompts(), HashEncoder())


@pytest.fixture(scope="package")
def order(reranker: Reranker) -> list[int]:
    """Positions in `TEXTS`, best first; another order than the candidates'."""
    found = list(reranker.rank(QUERY, TEXTS).order)
    assert found != sorted(found)
    return found
