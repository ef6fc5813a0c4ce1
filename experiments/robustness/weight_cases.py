"""Malformed weights: checkpoints, projectors, saved models, encoders."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from cases import Case
from safetensors.torch import load_file, save_file

import tiny
from perank import Reranker
from perank.files import sha256
from perank.model.encoder import Encoder
from perank.model.hub import from_pretrained, save_pretrained
from perank.model.llm import LLM
from perank.model.projector import Projector
from perank.model.projector_file import read_projector, write_projector
from perank.model.prompts import PromptBuilder
from perank.model.start import load_projector, save_projector
from perank.stages.checkpoints import newest_checkpoint, read_checkpoint

Change = Callable[[dict[str, Any]], Any]


class Code:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/perank-ran-a-pickle",)


def cases() -> Iterator[Case]:
    """All cases of weights."""
    yield from _torn("checkpoint", "step-000001.ckpt", _checkpoint, read_checkpoint)
    yield from _checkpoints()
    yield from _torn("projector.safetensors", "p.safetensors", _safetensors, _load_projector)
    yield from _projectors("projector.safetensors", "p.safetensors", save_file, _load_projector)
    yield from _torn("projector.bin", "p.bin", lambda path: write_projector(path, Projector(8, 16)), _read_bin)
    yield from _projectors("projector.bin", "p.bin", torch.save, _read_bin)
    yield from _models()
    yield from _encoders()


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


def _checkpoint(path: Path, change: Change = lambda content: content) -> None:
    content = {"state_dict": {}, "global_step": 1, "loops": {}, "optimizer_states": [], "lr_schedulers": []}
    torch.save(change(content), path)


def _checkpoints() -> Iterator[Case]:
    def read(change: Change) -> Callable[[Path], Any]:
        return lambda folder: (_checkpoint(folder / "x.ckpt", change), read_checkpoint(folder / "x.ckpt"))

    def all_broken(folder: Path) -> Any:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "step-000001.ckpt").write_bytes(b"torn")
        return newest_checkpoint(folder)

    for key in ("state_dict", "global_step", "loops", "optimizer_states", "lr_schedulers"):
        yield Case("checkpoint", f"without {key}", read(lambda c, key=key: {k: v for k, v in c.items() if k != key}))  # type: ignore[misc]
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
    read_projector(path, width_in=8, width_out=16)


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


@cache
def _base() -> tuple[Path, Path]:
    """A tiny LLM and encoder that outlive the cases."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="malformed-base-"))
    tiny.tiny_llm(3, layers=1, width=16, heads=2, kv_heads=1).save_pretrained(folder / "llm")
    tiny.tiny_tokenizer().save_pretrained(folder / "llm")
    tiny.tiny_encoder(folder / "encoder")
    return folder / "llm", folder / "encoder"


def _saved(folder: Path) -> Path:
    llm, encoder = _base()
    settings = LLM(name=str(llm))
    model = tiny.tiny_model(dtype=torch.float32, layers=1, width=16, heads=2, kv_heads=1)
    return save_pretrained(
        folder / "model", model, llm=settings, prompts=PromptBuilder(settings.tokenizer(), "compact"),
        encoder=Encoder(str(encoder), max_length=32), whole_llm=False,
    )  # fmt: skip


def _models() -> Iterator[Case]:
    reader = "saved model folder"

    def whole(folder: Path) -> Any:
        return from_pretrained(folder, dtype="float32").encoder.width

    def edited(change: Change, read: Callable[[Path], Any] = whole) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path = _saved(folder) / "config.json"
            path.write_text(json.dumps(change(json.loads(path.read_text()))))
            return read(folder / "model")

        return run

    def weights(change: Change) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path, config = _saved(folder) / "model.safetensors", folder / "model" / "config.json"
            save_file(change(load_file(path)), path)
            config.write_text(json.dumps(json.loads(config.read_text()) | {"sha256": sha256(path)}))
            return from_pretrained(folder / "model", dtype="float32")

        return run

    def without(name: str) -> Callable[[Path], Any]:
        return lambda folder: ((_saved(folder) / name).unlink(), from_pretrained(folder / "model"))

    def torn(name: str, share: float) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path = _saved(folder) / name
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
            return from_pretrained(folder / "model")

        return run

    yield Case(reader, "no such folder or Hub name", lambda folder: from_pretrained(str(folder / "none")), ("id",))
    yield Case(reader, "an empty folder", from_pretrained)
    for name in ("config.json", "model.safetensors"):
        yield Case(reader, f"without {name}", without(name))
        for share in (0.0, 0.5, 0.99):
            yield Case(reader, f"{name} cut after {share:.0%}", torn(name, share))
    yield Case(reader, "unknown key", edited(lambda c: c | {"colour": 1}), ("path", "id"))
    yield Case(
        reader, "unknown key inside", edited(lambda c: c | {"prompt": c["prompt"] | {"colour": 1}}), ("path", "id")
    )
    for key in ("encoder", "llm", "projector", "prompt", "score_scale", "window", "sha256", "residual"):
        yield Case(reader, f"config without {key}", edited(lambda c, key=key: {k: v for k, v in c.items() if k != key}))  # type: ignore[misc]
        yield Case(reader, f"config with {key} a list", edited(lambda c, key=key: c | {key: []}))  # type: ignore[misc]
    yield Case(reader, "another format", edited(lambda c: c | {"format": 99}))
    yield Case(reader, "config no object", edited(lambda c: [c]))
    yield Case(reader, "weights of another digest", edited(lambda c: c | {"sha256": "0" * 64}))
    other = {"llm": {"name": "/no/such/llm"}, "encoder": {"name": "/no/such/encoder"}}
    yield Case(reader, "its LLM is gone", edited(lambda c: c | {"llm": c["llm"] | other["llm"]}), ("id",))
    yield Case(
        reader, "its encoder is gone", edited(lambda c: c | {"encoder": c["encoder"] | other["encoder"]}), ("id",)
    )
    yield Case(
        reader, "more layers than there are", edited(lambda c: c | {"llm": c["llm"] | {"num_layers": 9}}), ("id",)
    )
    yield Case(reader, "unknown prompt version", edited(lambda c: c | {"prompt": c["prompt"] | {"version": "x"}}), ())
    yield Case(reader, "unknown pooling", edited(lambda c: c | {"encoder": c["encoder"] | {"pooling": "x"}}), ())
    yield Case(reader, "step beyond window", edited(lambda c: c | {"step": 99}, Reranker.from_pretrained), ())
    yield Case(reader, "score scale nan", edited(lambda c: c | {"score_scale": float("nan")}))
    yield Case(reader, "other widths", edited(lambda c: c | {"projector": {"width_in": 9, "width_out": 16}}))
    yield Case(reader, "a tensor missing", weights(lambda s: {k: v for k, v in s.items() if k != "projector.2.bias"}))
    yield Case(reader, "an unknown tensor", weights(lambda s: s | {"projector.9": torch.zeros(1)}))
    yield Case(reader, "a tensor nan", weights(lambda s: s | {"projector.2.bias": torch.full((16,), torch.nan)}))
    yield Case(
        reader, "adapters without settings", weights(lambda s: s | {"llm.x.lora_A.default.weight": torch.zeros(1, 1)})
    )


def _encoders() -> Iterator[Case]:
    def changed(change: Callable[[Path], Any], **options: Any) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            tiny.tiny_encoder(folder / "encoder")
            change(folder / "encoder")
            return Encoder(str(folder / "encoder"), **{"max_length": 32, **options}).encode_passages(["the rain"])

        return run

    def edit(**changes: Any) -> Callable[[Path], Any]:
        def run(folder: Path) -> None:
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return run

    def drop_tensor(folder: Path) -> None:
        path = folder / "model.safetensors"
        state = load_file(path)
        save_file(dict(list(state.items())[1:]), path, metadata={"format": "pt"})

    reader = "encoder"
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        yield Case(reader, f"without {name}", changed(lambda f, name=name: (f / name).unlink()), ("id",))  # type: ignore[misc]
        yield Case(reader, f"{name} torn", changed(lambda f, name=name: (f / name).write_bytes(b"{")), ("id",))  # type: ignore[misc]
    yield Case(reader, "a tensor missing", changed(drop_tensor), ("id",))
    yield Case(reader, "ALiBi weights said to be BERT", changed(edit(position_embedding_type="alibi")), ())
    yield Case(reader, "another width in its config", changed(edit(hidden_size=16)), ("id",))
    yield Case(reader, "a tokenizer larger than the model", changed(edit(vocab_size=9)), ("id",))
    yield Case(reader, "longer texts than positions", changed(lambda _: None, max_length=4096), ("id",))
    yield Case(reader, "no room for text", changed(lambda _: None, max_length=1), ("id",))
    yield Case(reader, "unknown pooling", changed(lambda _: None, pooling="best"), ("id",))
    yield Case(reader, "unknown dtype", changed(lambda _: None, dtype="float7"), ())
    yield Case(reader, "no such model", lambda folder: Encoder(str(folder / "none")).width, ("id",))
