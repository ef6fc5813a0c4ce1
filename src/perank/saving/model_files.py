"""The files of a saved model: config.json, model.safetensors, and `llm/` if the whole LLM was trained.

A config holds everything except weights that rankings depend on, and the weights' digest; unknown keys are errors.
"""

from __future__ import annotations

import math
import os
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from torch import Tensor

from perank.errors import BadInput
from perank.files import atomic_folder, atomic_write, read_json, sha256
from perank.model.llm import LLMSettings
from perank.model.locate import no_bars
from perank.model.lora import Lora
from perank.model.precision import dtype_of

CONFIG, WEIGHTS, OWN_LLM = "config.json", "model.safetensors", "./llm"


def saved(kind: type[Any], source: Any, **more: Any) -> Any:
    """Create the dataclass `kind` from `more` and the attributes of `source` of the same names."""
    names = [field.name for field in fields(kind) if field.name not in more]
    return kind(**{name: getattr(source, name) for name in names}, **more)


@dataclass(frozen=True, kw_only=True)
class SavedLora:
    r: int
    alpha: int
    dropout: float
    targets: list[str]

    def settings(self) -> Lora:
        """Convert to the settings of training."""
        return Lora(**{**asdict(self), "targets": tuple(self.targets)})


@dataclass(frozen=True, kw_only=True)
class SavedLLM:
    """`name` is `./llm` if the whole LLM was trained and is stored in the folder.

    With `layers`, model.safetensors has the weights of all its layers, and the embeddings are those of `name`.
    """

    name: str
    revision: str | None
    num_layers: int | None
    lora: SavedLora | None
    layers: bool = False

    @classmethod
    def of(cls, llm: LLMSettings, *, whole: bool, layers: bool = False) -> SavedLLM:
        """Convert from the settings of training."""
        named = replace(llm, name=OWN_LLM, revision=None, num_layers=None) if whole else llm
        lora = None if llm.lora is None else saved(SavedLora, llm.lora, targets=list(llm.lora.targets))
        return cls(name=named.name, revision=named.revision, num_layers=named.num_layers, lora=lora, layers=layers)

    def settings(self, folder: Path, **options: Any) -> LLMSettings:
        """Return settings that load the LLM, without adapters unless `options` set them."""
        name = str(folder / OWN_LLM) if self.name == OWN_LLM else self.name
        options |= {"train_embeddings": not self.layers}
        return LLMSettings(name=name, revision=self.revision, num_layers=self.num_layers, **options)


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
class SavedAnchors:
    """The settings of the anchors with the trained weights; null: a term that isn't used."""

    cosine: float | None
    rank: float | None
    feedback: float | None
    llm: float
    first: int
    stepwise: bool


@dataclass(frozen=True, kw_only=True)
class SavedProjector:
    width_in: int
    width_out: int


def read_config(folder: Path, kind: type[Any], *, format: int | str, what: str) -> Any:
    """Read a folder's config.json as the dataclass `kind`.

    Raises `BadInput` for a missing file, another format, and unknown or invalid keys or values.
    """
    path = folder / CONFIG
    raw = read_json(path)
    found = raw.get("format") if isinstance(raw, dict) else None
    if found != format:
        problem = f"expected a {what} of format {format!r}, found {found!r}"
        raise BadInput(problem, remedy="name a folder that perank.train or save_pretrained wrote", path=path)
    return _parsed(kind, raw, path)


def _parsed(kind: type[Any], raw: Any, path: Path, place: str = "") -> Any:
    if not isinstance(raw, dict):
        raise BadInput(f"expected an object, found {raw!r}", remedy="restore the file", path=path, id=place)
    names = {f.name for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING}
    if not needed <= raw.keys() <= names:
        missing, unknown = sorted(needed - raw.keys()), sorted(raw.keys() - names)
        problem = f"missing keys: {missing}, unknown keys: {unknown}"
        raise BadInput(problem, remedy="restore the file or update perank", path=path, id=place or "config")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], raw[name], path, f"{place}{name}") for name in raw})


def _value(hint: Any, value: Any, path: Path, place: str) -> Any:
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if is_dataclass(option) and isinstance(option, type) and value is not None:
            return _parsed(option, value, path, f"{place}.")
    if list[str] in options and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    plain = tuple(option for option in options if isinstance(option, type) and not get_args(option))
    wanted = (*plain, int) if float in plain else plain
    if isinstance(value, wanted) and _usable(value) and (not isinstance(value, bool) or bool in plain):
        return value
    raise BadInput(f"expected {hint}, found {value!r}", remedy="restore the file", path=path, id=place)


def _usable(value: Any) -> bool:
    """Whether integers are at least 1 (all are counts) and floats are finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return math.isfinite(value) if isinstance(value, float) else value >= 1


def write_llm(folder: Path, llm: Any, weights: Mapping[str, Tensor], tokenizer: Any) -> None:
    """Write the LLM's part of a model's weights atomically, in Hugging Face's layout."""
    own = {key.removeprefix("llm."): value for key, value in weights.items() if key.startswith("llm.")}
    with atomic_folder(folder / OWN_LLM) as draft:
        with no_bars():
            llm.save_pretrained(draft, state_dict=own)
        tokenizer.save_pretrained(draft)


def write_weights(folder: Path, state: Mapping[str, Tensor], dtype: str | None = None) -> str:
    """Write safetensors atomically, as `dtype` (None: unchanged); return the file's SHA-256."""
    from safetensors.torch import save

    kind = None if dtype is None else dtype_of(dtype)
    kept = {key: value.detach().to("cpu", kind).contiguous() for key, value in state.items()}
    with atomic_write(folder / WEIGHTS, "wb") as file:
        file.write(save(kept, metadata={"format": "pt"}))
    return sha256(folder / WEIGHTS)


def read_weights(folder: Path, digest: str) -> dict[str, Tensor]:
    """Read a folder's tensors. Raises `BadInput` if the file is missing, has another SHA-256, or isn't finite."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise BadInput("the file is missing", remedy="save the model again", path=path)
    if sha256(path) != digest:
        problem = "the SHA-256 differs from the one in config.json"
        raise BadInput(problem, remedy="save or download the model again", path=path)
    return finite_tensors(path)


def finite_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file. Raises `BadInput` if it can't be read or a value isn't finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"not a safetensors file: {error}", remedy="download the model again", path=path) from error
    for name, value in state.items():
        if not value.isfinite().all():
            raise BadInput("the tensor has values that aren't finite", remedy="use another file", path=path, id=name)
    return state


def local_folder(name_or_path: str | os.PathLike[str], revision: str | None, *, code: bool = False) -> Path:
    """Return the folder itself, or download a Hub repository; Python files only if `code`.

    Raises `BadInput` if it is neither.
    """
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.md", *(["*.py"] if code else [])]
    try:
        return Path(snapshot_download(str(name_or_path), revision=revision, allow_patterns=wanted))
    except (OSError, ValueError, RuntimeError) as error:  # unknown, gated, offline or an invalid name
        problem = f"neither a folder nor available on the Hub: {str(error).strip().splitlines()[0][:200]}"
        raise BadInput(problem, remedy="check the name and the connection", id=str(name_or_path)) from error
