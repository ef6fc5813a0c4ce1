"""What a sentence-transformers folder says about its encoder: pooling, prompts, and layers after the pooling.

`modules.json` lists the modules a text passes. Pooling and prompts are perank's settings too; where the two contradict
each other, the encoder is refused: vectors of another pooling look like vectors. Dense layers after the pooling are
part of the weights and are applied. Vectors are always normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from perank.errors import BadInput
from perank.files import read_json
from perank.model.locate import reading

_POOLINGS = {  # theirs -> ours
    "cls_token": "cls", "cls": "cls", "mean_tokens": "mean", "mean": "mean", "max_tokens": "max", "max": "max",
    "mean_sqrt_len_tokens": "mean_sqrt", "weightedmean_tokens": "weighted", "weightedmean": "weighted",
    "lasttoken": "last",
}  # fmt: skip
_QUERY, _PASSAGE = ("query", "search_query"), ("document", "passage", "corpus", "search_document")
_REMEDY = "use an encoder of a transformer, a pooling and dense layers"


@dataclass(frozen=True, kw_only=True)
class Published:
    """The folder's `pooling`, its prompts (None: it names none), and the `dense` layers after the pooling."""

    pooling: str | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    lower: bool = False
    dense: nn.Sequential = field(default_factory=nn.Sequential)

    def check(self, settings: Any, id: str) -> None:
        """Raise `BadInput` with the setting (attribute of `settings`) that contradicts the folder."""
        for name in ("pooling", "query_prefix", "passage_prefix"):
            said, here = getattr(self, name), getattr(settings, name)
            if said is not None and said != here:
                problem = f"its sentence-transformers files say {name}={said!r}, the settings {here!r}"
                remedy = f"set encoder.{name}={said!r}, or encoder.follow=false if the files are wrong"
                raise BadInput(problem, remedy=remedy, id=id)


def read_published(path: str, **hub: Any) -> Published:
    """Read the files of a folder or Hub repository; without `modules.json` it says nothing.

    Raises `BadInput` for modules that perank doesn't have, and for damaged files.
    """
    files = _Files(path, hub)
    modules, prompts = files.json("modules.json"), files.json("config_sentence_transformers.json") or {}
    if modules is None:
        return Published()
    try:
        return _parsed(files, modules, prompts.get("prompts") or {})
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, BadInput):
            raise
        problem = f"its sentence-transformers files can't be read: {type(error).__name__}: {error}"
        raise BadInput(problem, remedy="download them again", id=path) from error


def _parsed(files: _Files, modules: list[Mapping[str, Any]], prompts: Mapping[str, str]) -> Published:
    pooling, lower, dense = None, False, list[nn.Module]()
    for number, module in enumerate(modules):
        kind, folder = module["type"].rpartition(".")[2], module.get("path", "")
        if kind == "Transformer" and number == 0 and not folder:
            lower = bool((files.json("sentence_bert_config.json") or {}).get("do_lower_case", False))
        elif kind == "Pooling" and pooling is None:
            pooling = _pooling(files.json(f"{folder}/config.json") or {}, files.path)
        elif kind == "Dense" and pooling is not None:
            dense += _dense(files, folder)
        elif kind not in ("Normalize", "Dropout"):
            place = f" in {folder!r}" if folder else ""
            raise BadInput(f"module {number} is a {kind}{place}, which perank lacks", remedy=_REMEDY, id=files.path)
    if pooling is None:
        raise BadInput("its modules.json names no pooling", remedy=_REMEDY, id=files.path)
    return Published(
        pooling=pooling,
        query_prefix=_prompt(prompts, _QUERY),
        passage_prefix=_prompt(prompts, _PASSAGE),
        lower=lower,
        dense=nn.Sequential(*dense),
    )


def _pooling(config: Mapping[str, Any], path: str) -> str:
    found = {key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on}
    found |= {str(config["pooling_mode"])} if config.get("pooling_mode") else set()
    if len(found) != 1 or not found <= _POOLINGS.keys() or config.get("include_prompt", True) is False:
        problem = f"its pooling is {config}"
        raise BadInput(problem, remedy=f"use an encoder with one pooling of {sorted({*_POOLINGS.values()})}", id=path)
    return _POOLINGS[found.pop()]


def _prompt(prompts: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The prompt under the first of these names. An empty one says nothing."""
    return next((prompts[name] for name in names if prompts.get(name)), None)


def _dense(files: _Files, folder: str) -> list[nn.Module]:
    config = files.json(f"{folder}/config.json") or {}
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    kinds = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU, "SiLU": nn.SiLU}
    if activation not in kinds:
        problem = f"a dense layer's activation is {activation}"
        raise BadInput(problem, remedy=f"use one of {', '.join(kinds)}", id=files.path)
    layer = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    layer.load_state_dict({key.removeprefix("linear."): value for key, value in files.tensors(folder).items()})
    return [layer, kinds[activation]()]


class _Files:
    """The files of a folder or Hub repository."""

    def __init__(self, path: str, hub: Mapping[str, Any]) -> None:
        self.path, self.hub = path, hub

    def json(self, name: str) -> Any:
        """The parsed file; None if there is none."""
        found = self._find(name)
        return None if found is None else read_json(found)

    def tensors(self, folder: str) -> Mapping[str, Tensor]:
        """The weights of a module."""
        from safetensors.torch import load_file

        if (found := self._find(f"{folder}/model.safetensors")) is not None:
            return load_file(found)
        if (found := self._find(f"{folder}/pytorch_model.bin")) is not None:
            state: Mapping[str, Tensor] = torch.load(found, map_location="cpu", weights_only=True)
            return state
        raise BadInput(f"the module {folder!r} has no weights", remedy="download them again", id=self.path)

    def _find(self, name: str) -> Path | None:
        from transformers.utils.hub import cached_file

        if Path(self.path).is_dir():
            return Path(self.path) / name if (Path(self.path) / name).is_file() else None
        with reading(self.path):
            found = cached_file(
                self.path, name, _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False, **self.hub,
            )  # fmt: skip
        return None if found is None else Path(found)
