"""Malformed models: saved folders, the authors' folders, encoders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from cases import Case
from safetensors.torch import load_file, save_file

from perank import Reranker
from perank.files import sha256
from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.model.prompts import PromptBuilder
from perank.saving.authors_checkpoint import read_authors_checkpoint, write_authors_checkpoint
from perank.saving.hub import from_pretrained, save_pretrained
from support import tiny
from support.spoiled import SPOILED_CONFIGS, SPOILED_TENSORS
from support.tiny_families import prompts, save_bert, tiny_perank

Change = Callable[[dict[str, Any]], Any]


def cases() -> Iterator[Case]:
    """All cases of models."""
    yield from _models()
    yield from _published()
    yield from _encoders()


@cache
def _base() -> tuple[Path, Path]:
    """A tiny LLM and encoder that outlive the cases."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="malformed-base-"))
    tiny.tiny_llm(3, layers=1, width=16, heads=2, kv_heads=1).save_pretrained(folder / "llm")
    tiny.tiny_tokenizer().save_pretrained(folder / "llm")
    tiny.tiny_encoder(folder / "encoder")
    return folder / "llm", folder / "encoder"


def saved_model(folder: Path) -> Path:
    llm, encoder = _base()
    settings = LLMSettings(name=str(llm))
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
            path = saved_model(folder) / "config.json"
            path.write_text(json.dumps(change(json.loads(path.read_text()))))
            return read(folder / "model")

        return run

    def weights(change: Change) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path, config = saved_model(folder) / "model.safetensors", folder / "model" / "config.json"
            save_file(change(load_file(path)), path)
            config.write_text(json.dumps(json.loads(config.read_text()) | {"sha256": sha256(path)}))
            return from_pretrained(folder / "model", dtype="float32")

        return run

    def without(name: str) -> Callable[[Path], Any]:
        return lambda folder: ((saved_model(folder) / name).unlink(), from_pretrained(folder / "model"))

    def torn(name: str, share: float) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            path = saved_model(folder) / name
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
    for inside in (
        {"window": 0},
        {"step": -1},
        {"prompt": {"version": "compact", "query_slot": False, "max_length": 0, "text_tokens": None}},
        {"residual": float("nan")},
        {"llm": {"name": "x", "revision": None, "num_layers": 0, "lora": None}},
    ):
        yield Case(reader, f"config with {inside}", edited(lambda c, inside=inside: c | inside), ("path", "id"))  # type: ignore[misc]
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
    huge = {"projector": {"width_in": 10**12, "width_out": 16}}
    yield Case(reader, "a projector of a trillion", edited(lambda c: c | huge))
    yield Case(reader, "other widths", edited(lambda c: c | {"projector": {"width_in": 9, "width_out": 16}}))
    yield Case(reader, "a tensor missing", weights(lambda s: {k: v for k, v in s.items() if k != "projector.2.bias"}))
    yield Case(reader, "an unknown tensor", weights(lambda s: s | {"projector.9": torch.zeros(1)}))
    yield Case(reader, "a tensor nan", weights(lambda s: s | {"projector.2.bias": torch.full((16,), torch.nan)}))
    yield Case(
        reader, "adapters without settings", weights(lambda s: s | {"llm.x.lora_A.default.weight": torch.zeros(1, 1)})
    )


def _published() -> Iterator[Case]:
    """The authors' layout; `tests/model/spoiled.py` says how it is spoiled."""

    def reading(spoil: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def run(folder: Path) -> Any:
            encoder = Encoder(str(save_bert(folder / "bert")), max_length=64)
            write_authors_checkpoint(folder / "checkpoint", tiny_perank(), prompts(), encoder)
            spoil(folder / "checkpoint")
            return read_authors_checkpoint(folder / "checkpoint", encoder=encoder)

        return run

    def tensors(change: Change) -> Callable[[Path], Any]:
        def run(folder: Path) -> None:
            found = load_file(folder / "model.safetensors")
            change(found)
            save_file(found, folder / "model.safetensors")

        return run

    def config(changes: dict[str, Any]) -> Callable[[Path], Any]:
        def run(folder: Path) -> None:
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | changes))

        return run

    def torn(name: str, share: float) -> Callable[[Path], Any]:
        def run(folder: Path) -> None:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[: int(len(content) * share)])

        return run

    reader = "authors' checkpoint"
    for defect, (change, _) in SPOILED_TENSORS.items():
        yield Case(reader, defect, reading(tensors(change)))
    for defect, (changes, _) in SPOILED_CONFIGS.items():
        yield Case(reader, f"config: {defect}", reading(config(changes)))
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        yield Case(reader, f"without {name}", reading(lambda folder, name=name: (folder / name).unlink()))  # type: ignore[misc]
        for share in (0.0, 0.5, 0.99):
            yield Case(reader, f"{name} cut after {share:.0%}", reading(torn(name, share)))


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
