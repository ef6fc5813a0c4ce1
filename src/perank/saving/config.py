"""The files of a saved PE-Rank model: its config.json, which refuses unknown keys, and its tensors, checked by digest.

The config holds everything that rankings depend on besides weights.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from torch import Tensor

from perank.errors import BadInput
from perank.files import atomic_write, read_json, sha256
from perank.model.lora import Lora
from perank.model.precision import dtype_of

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class SavedLora:
    r: int
    alpha: int
    dropout: float
    targets: list[str]

    @classmethod
    def of(cls, lora: Lora) -> SavedLora:
        """From training's settings."""
        return cls(r=lora.r, alpha=lora.alpha, dropout=lora.dropout, targets=list(lora.targets))

    def settings(self) -> Lora:
        """Back to training's settings."""
        return Lora(r=self.r, alpha=self.alpha, dropout=self.dropout, targets=tuple(self.targets))


@dataclass(frozen=True, kw_only=True)
class SavedLLM:
    """`name` is `./llm` where the whole LLM was trained and lies in the folder."""

    name: str
    revision: str | None
    num_layers: int | None
    lora: SavedLora | None


@dataclass(frozen=True, kw_only=True)
class SavedEncoder:
    name: str
    revision: str | None
    pooling: str
    query_prefix: str
    passage_prefix: str
    max_length: int


@dataclass(frozen=True, kw_only=True)
class SavedPrompt:
    version: str
    query_slot: bool
    max_length: int
    text_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class SavedProjector:
    width_in: int
    width_out: int


@dataclass(frozen=True, kw_only=True)
class SavedConfig:
    """`sha256` is that of model.safetensors: a half-written folder is noticed. Window and step are defaults."""

    format: int
    perank: str
    llm: SavedLLM
    encoder: SavedEncoder
    projector: SavedProjector
    prompt: SavedPrompt
    score_scale: float
    residual: float
    window: int
    step: int
    sha256: str

    def as_dict(self) -> dict[str, Any]:
        """What is written as JSON."""
        return asdict(self)


def read_config(path: Path) -> SavedConfig:
    """Parse a config.json. Raises `BadInput` for a missing file, another format, and keys or values it can't use."""
    raw = read_json(path)
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != FORMAT:
        problem = f"not a PE-Rank model of format {FORMAT}, but {found!r}"
        raise BadInput(problem, remedy="name a folder written by save_pretrained, or update perank", path=path)
    return parsed(SavedConfig, raw, path, "")


def parsed(kind: type[Any], raw: Any, path: Path, place: str = "") -> Any:
    """`raw` as the dataclass `kind`. Raises `BadInput` for missing or unknown keys and values of another type."""
    if not isinstance(raw, dict):
        raise BadInput(f"expected an object, found {raw!r}", remedy="restore the file", path=path, id=place)
    names = {f.name for f in fields(kind)}
    if raw.keys() != names:
        missing, unknown = sorted(names - raw.keys()), sorted(raw.keys() - names)
        problem = f"missing keys: {missing}, unknown keys: {unknown}"
        raise BadInput(problem, remedy="restore the file or update perank", path=path, id=place or "config")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], raw[name], path, f"{place}{name}") for name in raw})


def _value(hint: Any, value: Any, path: Path, place: str) -> Any:
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if is_dataclass(option) and isinstance(option, type) and value is not None:
            return parsed(option, value, path, f"{place}.")
    if list[str] in options and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    plain = tuple(option for option in options if isinstance(option, type) and not get_args(option))
    wanted = (*plain, int) if float in plain else plain
    if isinstance(value, wanted) and _usable(value) and (not isinstance(value, bool) or bool in plain):
        return value
    raise BadInput(f"expected {hint}, found {value!r}", remedy="restore the file", path=path, id=place)


def _usable(value: Any) -> bool:
    """Whole numbers count something here, from 1 on; the others are finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return math.isfinite(value) if isinstance(value, float) else value >= 1


def write_weights(path: Path, state: Mapping[str, Tensor], dtype: str | None = None) -> None:
    """Safetensors, as `dtype` or as they are, atomically."""
    from safetensors.torch import save

    kind = None if dtype is None else dtype_of(dtype)
    kept = {key: value.detach().to("cpu", kind).contiguous() for key, value in state.items()}
    with atomic_write(path, "wb") as file:
        file.write(save(kept, metadata={"format": "pt"}))


def read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file. Raises `BadInput` where it is missing, torn, not the one of that sha256, or not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise BadInput("there is no such file", remedy="save the model again", path=path)
    if sha256(path) != digest:
        problem = "these are not the weights config.json was written with"
        raise BadInput(problem, remedy="save or fetch the model again", path=path)
    try:
        state: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise BadInput(f"not a safetensors file: {error}", remedy="fetch the model again", path=path) from error
    for name, value in state.items():
        if not value.isfinite().all():
            raise BadInput("holds values that aren't finite", remedy="train the model again", path=path, id=name)
    return state
