"""Random mutations of every format, text and binary: a reader gives records or `BadInput`, and no other exception."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from text_formats import FORMATS
from weight_cases import write_checkpoint

from perank.errors import BadInput
from perank.files import read_json
from perank.model.projector import Projector
from perank.model.projector_io import load_projector, read_authors_projector, save_projector, write_authors_projector
from perank.retrieval.encoding import StoreOptions, encode_into
from perank.retrieval.store import EmbeddingStore
from perank.saving.config import read_saved_config
from perank.training.checkpoints import newest_checkpoint, read_checkpoint

Read = Callable[[Path], Any]


def ended(number: int, seed: int) -> tuple[int, int, list[str]]:
    """`number` mutations of each format: (how many were read, how many refused, the other exceptions)."""
    dice, read, refused, escaped = random.Random(seed), 0, 0, list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for name, path, good, reader in formats(Path(folder)):
            for _ in range(number):
                path.write_bytes(content := mutated(good, dice))
                try:
                    reader(path)
                    read += 1
                except BadInput:
                    refused += 1
                except Exception as error:
                    escaped.append(f"{name}: {type(error).__name__}: {error}: {content[:200]!r}")
            path.write_bytes(good)
    return read, refused, escaped


def formats(folder: Path) -> Iterator[tuple[str, Path, bytes, Read]]:
    """(name, the file to write, a good content, its reader) of each format."""
    for one in FORMATS:
        yield one.name, folder / one.file, "\n".join([*one.good, *one.good[-1:], ""]).encode(), one.read
    for name, file, write, read in _weights():
        write(folder / file)
        yield name, folder / file, (folder / file).read_bytes(), read
    yield from _store(folder / "store")


def _weights() -> Iterator[tuple[str, str, Callable[[Path], Any], Read]]:
    projector = Projector(4, 6)
    yield "projector.bin", "p.bin", lambda path: write_authors_projector(path, projector), read_authors_projector
    yield (
        "projector.safetensors",
        "p.safetensors",
        lambda path: save_projector(projector, path),
        lambda path: load_projector(Projector(4, 6), path),
    )
    yield "checkpoint", "checkpoints/step-000001.ckpt", _checkpoint, read_checkpoint
    yield (
        "checkpoint of a folder",
        "checkpoints/step-000001.ckpt",
        _checkpoint,
        lambda path: newest_checkpoint(path.parent.parent),
    )
    yield "config.json of a model", "config.json", _config, lambda path: read_saved_config(path.parent)


def _checkpoint(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    write_checkpoint(path, lambda content: content | {"state_dict": {"weights": torch.arange(20.0)}})


def _config(path: Path) -> None:
    from model_cases import saved_model

    path.write_bytes((saved_model(path.parent) / "config.json").read_bytes())
    assert read_json(path)


def _store(folder: Path) -> Iterator[tuple[str, Path, bytes, Read]]:
    from vector_cases import Fixed

    texts = {f"p{i}": f"text {i}" for i in range(5)}
    encode_into(folder, texts, Fixed(), StoreOptions(shard_rows=3, progress=False))
    for path in sorted([*folder.glob("*-*.bin"), folder / "manifest.json"]):
        yield f"store, {path.name}", path, path.read_bytes(), lambda _: EmbeddingStore.open(folder).get(["p0", "p4"])


def mutated(content: bytes, dice: random.Random) -> bytes:
    """Up to five bytes or runs changed, doubled or left out."""
    for _ in range(dice.randint(1, 5)):
        start = dice.randrange(len(content) + 1)
        end = min(len(content), start + dice.choice([0, 1, 1, 2, 9]))
        put = dice.choice(
            [b"", bytes([dice.randrange(256)]), content[start:end] * 2, b"\n", b'"', b"\xed\xa0\x80", b"1e999"]
        )
        content = content[:start] + put + content[end:]
    return content
