"""A checkpoint in the authors' layout, written once for all tests of reading it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from perank.model.encoders.encoder import Encoder
from perank.saving.authors_checkpoint import write_authors_checkpoint
from support.tiny_families import prompts, save_bert, tiny_perank


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert") / "encoder")


@pytest.fixture(scope="module")
def encoder(bert: Path) -> Encoder:
    return Encoder(str(bert), max_length=64)


@pytest.fixture(scope="module")
def good(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "checkpoint"
    write_authors_checkpoint(folder, tiny_perank(), prompts(), encoder)
    return folder


@pytest.fixture
def copied(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy"))
