"""config.json of a saved model: everything except weights that rankings depend on, and the weights' digest.

Unknown keys are errors.
"""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from perank.errors import BadInput
from perank.files import read_json, write_json
from perank.model import AnchorSettings, Encoder, LLMSettings, Lora
from perank.saving.model_files import CONFIG, OWN_LLM, found_name, saved_name

FORMAT = 1


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
        name = OWN_LLM if whole else saved_name(named.name)
        return cls(name=name, revision=named.revision, num_layers=named.num_layers, lora=lora, layers=layers)

    def settings(self, folder: Path, **options: Any) -> LLMSettings:
        """Return settings that load the LLM, without adapters unless `options` set them."""
        options |= {"train_embeddings": not self.layers}
        name = found_name(self.name, folder)
        return LLMSettings(name=name, revision=self.revision, num_layers=self.num_layers, **options)

    def check_trained_with(self, llm: LLMSettings, folder: Path) -> None:
        """Raise `BadInput` unless `llm` has the same number of layers and adapters; their dropout may differ."""
        both = self, SavedLLM.of(llm, whole=False)
        there, here = ((one.num_layers, one.lora and replace(one.lora, dropout=0.0)) for one in both)
        if here != there:
            settings = [f"num_layers: {layers}, lora: {lora and asdict(lora)}" for layers, lora in (there, here)]
            problem = f"the model's LLM has {settings[0]}; the backbone has {settings[1]}"
            raise BadInput(problem, remedy="set backbone.num_layers and backbone.lora to the model's", path=folder)


@dataclass(frozen=True, kw_only=True)
class SavedEncoder:
    name: str
    revision: str | None
    pooling: str
    query_prefix: str
    passage_prefix: str
    max_length: int

    def encoder(self, folder: Path, **options: Any) -> Encoder:
        """The encoder with these settings, which the model was trained with, whatever its own files say."""
        return Encoder(**{**vars(self), "name": found_name(self.name, folder)}, follow=False, **options)


@dataclass(frozen=True, kw_only=True)
class SavedPrompt:
    version: str
    query_slot: bool | str
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
    temperature: float | None = None
    first_state: bool = False


@dataclass(frozen=True, kw_only=True)
class SavedProjector:
    width_in: int
    width_out: int


@dataclass(frozen=True, kw_only=True)
class SavedConfig:
    """`sha256` is that of model.safetensors, to detect partial writes. Window and step are defaults.

    `residual` is the cosine anchor in the files of earlier versions, else 0. `anchors` is left out if there are none.
    """

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
    anchors: SavedAnchors | None = None

    def anchor_settings(self) -> AnchorSettings | None:
        """The anchors, or the residual of an earlier version."""
        if self.anchors is not None:
            return AnchorSettings(**asdict(self.anchors))
        return AnchorSettings(cosine=self.residual) if self.residual else None

    def write(self, folder: Path) -> None:
        """Write config.json atomically, without the keys of parts that the model doesn't have."""
        written = {key: value for key, value in asdict(self).items() if value or key != "anchors"}
        if not self.llm.layers:
            del written["llm"]["layers"]
        write_json(folder / CONFIG, written)


def card_of(config: SavedConfig) -> str:
    """Return a short model card."""
    base = "" if config.llm.name.startswith(("pypi:", ".")) else f"base_model: {config.llm.name}\n"
    return (
        f"---\nlibrary_name: perank\ntags: [reranking, pe-rank]\n{base}---\n\n"
        f"A PE-Rank listwise reranker: {config.llm.name} reads one {config.encoder.name} vector per passage.\n\n"
        '```python\nfrom perank import Reranker\nReranker.from_pretrained("this folder").rank(query, passages)\n```\n'
    )


def read_saved_config(folder: Path) -> SavedConfig:
    """Read config.json of a saved model. Raises `BadInput` if it isn't one, or for unusable values."""
    found: SavedConfig = read_config(folder, SavedConfig, format=FORMAT, what="PE-Rank model")
    return found


def read_config(folder: Path, kind: type[Any], *, format: int | str, what: str) -> Any:
    """Read a folder's config.json as the dataclass `kind`.

    Raises `BadInput` for a missing file, where it names the model of a training run, for another format, and for
    unknown or invalid keys or values.
    """
    path, trained = folder / CONFIG, folder / "model"
    if not path.exists() and (trained / CONFIG).is_file():
        raise BadInput("a training run's folder, not a model's", remedy=f"name {trained}", path=folder)
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
