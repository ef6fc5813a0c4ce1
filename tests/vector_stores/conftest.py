"""Texts, their vectors, and a tiny reranker; what every engine has to give back."""

from __future__ import annotations

import numpy as np
import pytest

from perank import Reranker
from support import tiny
from support.fake_encoders import HashEncoder

ENCODER = HashEncoder()
TEXTS = {f"it's {i}": f"text number {i}" for i in range(40)}
IDS = list(TEXTS)
VECTORS = np.stack([ENCODER.vector(text) for text in TEXTS.values()])
QUERY = tiny.QUERY.text


@pytest.fixture(scope="package")
def reranker() -> Reranker:
    return Reranker(tiny.tiny_model(3), tiny.tiny_prompts(), ENCODER)
