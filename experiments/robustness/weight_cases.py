"""Malformed weights: checkpoints and projectors."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from cases import Case
from safetensors.torch import save_file

from perank.model.projector import Projector
from perank.model.projector_io import load_projector, read_authors_projector, save_projector, write_authors_projector
from perank.training.checkpoints import newest_checkpoint, read_checkpoint

Change = Callable[[dict[str, Any]], Any]


class Code:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/perank-ran-a-pickle",)


def cases() -> Iterator[Case]:
    """All cases of weights."""
    yield from _torn("checkpoint", "step-000001.ckpt", write_checkpoint, read_checkpoint)
    yield from _checkpoints()
    yield from _torn("projector.safetensors", "p.safetensors", _safetensors, _load_projector)
    yield from _projectors("projector.safetensors", "p.safetensors", save_file, _load_projector)
    yield from _torn("projector.bin", "p.bin", lambda path: write_authors_projector(path, Projector(8, 16)), _read_bin)
    yield from _projectors("projector.bin", "p.bin", torch.save, _read_bin)


def _torn(reader: str, file: str, write: Callable[[Path], Any], read: Callable[[Path], Any]) -> Iterator[Case]:
    def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            write(folder / file)
            (folder / file).write_bytes(change((folder / file).read_bytes()))
            return read(folder / file)

        return run

    yield Case(reader, "missing", lambda folder: read(folder / file))
    yield Case(reader, "a folder in its place", lambda folder: (folder / file).mkdir() or read(folder / file))
    yield Case(reader, "empty", changed(lambda _: b""))
    yield Case(reader, "text", changed(lambda _: b"not weights\n" * 9))
    yield Case(reader, "a pickle of code", changed(lambda _: pickle.dumps(Code())))
    for share in (0.01, 0.3, 0.6, 0.9, 0.99):
        yield Case(
            reader, f"cut after {share:.0%}", changed(lambda whole, share=share: whole[: int(len(whole) * share)])
        )  # type: ignore[misc]
    yield Case(reader, "zeros at the start", changed(lambda whole: bytes(64) + whole[64:]))


def write_checkpoint(path: Path, change: Change = lambda content: content) -> None:
    content = {"state_dict": {}, "global_step": 1, "loops": {}, "optimizer_states": [{}]}
    content |= {"lr_schedulers": [{}], "random_states": [{}]}
    torch.save(change(content), path)


def _checkpoints() -> Iterator[Case]:
    def read(change: Change) -> Callable[[Path], Any]:
        return lambda folder: (write_checkpoint(folder / "x.ckpt", change), read_checkpoint(folder / "x.ckpt"))

    def flipped(folder: Path) -> Any:
        path, weights = folder / "x.ckpt", torch.arange(100.0)
        write_checkpoint(path, lambda content: content | {"state_dict": {"weights": weights}})
        content = bytearray(path.read_bytes())
        content[content.index(weights.numpy().tobytes()) + 9] ^= 1
        path.write_bytes(content)
        return read_checkpoint(path)

    def all_broken(folder: Path) -> Any:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "step-000001.ckpt").write_bytes(b"torn")
        return newest_checkpoint(folder)

    for key in ("state_dict", "global_step", "loops", "optimizer_states", "lr_schedulers", "random_states"):
        yield Case("checkpoint", f"without {key}", read(lambda c, key=key: {k: v for k, v in c.items() if k != key}))  # type: ignore[misc]
    for key, value in {"global_step": "nine", "loops": [], "optimizer_states": [], "random_states": []}.items():
        yield Case("checkpoint", f"{key} {value!r}", read(lambda c, key=key, value=value: c | {key: value}))  # type: ignore[misc]
    yield Case("checkpoint", "a bit of a tensor flipped", flipped)
    yield Case("checkpoint", "a list", read(lambda _: [1, 2]))
    yield Case("checkpoint", "a tensor", read(lambda _: torch.zeros(3)))
    yield Case("checkpoint", "code inside", read(lambda c: c | {"state_dict": Code()}))
    yield Case("checkpoint", "a whole module inside", read(lambda c: c | {"state_dict": torch.nn.Linear(2, 2)}))
    yield Case("checkpoint", "a folder of broken ones", all_broken)


def _safetensors(path: Path) -> None:
    save_projector(Projector(8, 16), path)


def _load_projector(path: Path) -> None:
    load_projector(Projector(8, 16), path)


def _read_bin(path: Path) -> None:
    read_authors_projector(path, width_in=8, width_out=16)


def _projectors(
    reader: str, file: str, save: Callable[[Any, Path], Any], read: Callable[[Path], Any]
) -> Iterator[Case]:
    def changed(change: Change) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            state = {name: value.detach().clone() for name, value in Projector(8, 16).state_dict().items()}
            save(change(state), folder / file)
            return read(folder / file)

        return run

    def with_value(name: str, value: float) -> Change:
        def change(state: dict[str, Any]) -> dict[str, Any]:
            state[name].view(-1)[0] = value
            return state

        return change

    for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
        yield Case(reader, f"without {name}", changed(lambda s, n=name: {k: v for k, v in s.items() if k != n}))  # type: ignore[misc]
        yield Case(reader, f"{name} nan", changed(with_value(name, torch.nan)))
        yield Case(reader, f"{name} inf", changed(with_value(name, torch.inf)))
        yield Case(reader, f"{name} of another width", changed(lambda s, n=name: s | {n: s[n][:-1].clone()}))  # type: ignore[misc]
    yield Case(reader, "an unknown tensor", changed(lambda s: s | {"4.weight": torch.zeros(2, 2)}))
    yield Case(reader, "whole numbers", changed(lambda s: {k: v.long() for k, v in s.items()}))
    for widths in ((9, 16), (8, 15)):
        other = Projector(*widths).state_dict()
        yield Case(reader, f"trained for widths {widths}", changed(lambda _, other=other: dict(other)))  # type: ignore[misc]
