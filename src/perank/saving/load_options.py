"""How to load a model, in the words of other libraries too; everything is checked before any weights are read."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch

from perank.errors import BadInput
from perank.model import dtype_of, known_device

HUB = ("token", "local_files_only", "cache_dir", "force_download")  # options of the download
_NAMES = ("device", "dtype", "revision", "trust_remote_code", "attn_implementation", *HUB)
_ALIASES = {"torch_dtype": "dtype", "device_map": "device"}


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """`dtype` and `device` are names that exist here; `hub` are options of the download."""

    device: str = "cpu"
    dtype: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    attention: str = "sdpa"
    hub: Mapping[str, Any] = field(default_factory=dict)


def split_options(given: Mapping[str, Any], others: Collection[str] = ()) -> tuple[LoadOptions, dict[str, Any]]:
    """Return how to load, and those of the options whose names are among `others`.

    `torch_dtype` is `dtype`, `device_map` is `device` ("auto": a GPU if there is one); dtypes and devices may be
    torch's objects. Raises `BadInput` for an unknown name, for two names of one option, and for unusable values.
    """
    rest, named = {}, dict[str, Any]()
    for name, value in given.items():
        own = _ALIASES.get(name, name)
        if name in others:
            rest[name] = value
        elif own not in _NAMES:
            known = [*_NAMES, *_ALIASES, *others]
            remedy = f"choose among {', '.join(get_close_matches(name, known, n=3) or sorted(known))}"
            raise BadInput("no such option", remedy=remedy, id=name)
        elif own in named:
            raise BadInput(f"given as {name} too", remedy="give one of the two", id=own)
        else:
            named[own] = value
    return _checked(named), rest


def _checked(named: Mapping[str, Any]) -> LoadOptions:
    for name in ("trust_remote_code", "local_files_only", "force_download"):
        if not isinstance(named.get(name, False), bool):
            raise BadInput(f"expected true or false, found {named[name]!r}", remedy="give True or False", id=name)
    attention = named.get("attn_implementation") or "sdpa"
    if attention not in ("sdpa", "eager"):
        problem = f"attention {attention!r} takes no mask of its own"
        raise BadInput(problem, remedy="choose sdpa or eager", id="attn_implementation")
    device = _device(named.get("device"))
    return LoadOptions(
        device=device,
        dtype=_dtype(named.get("dtype"), device),
        revision=_text_or_none(named.get("revision"), "revision"),
        trust_remote_code=named.get("trust_remote_code", False),
        attention=attention,
        hub={name: named[name] for name in HUB if named.get(name) is not None},
    )


def _device(value: Any) -> str:
    """A device by name, number, torch's object, or as accelerate's map of the whole model."""
    if isinstance(value, Mapping):
        if set(value) != {""}:
            problem = f"a map of {len(value)} parts; perank puts the whole model on one device"
            raise BadInput(problem, remedy='give a device such as "cuda:0"', id="device_map")
        return _device(value[""])
    if value is None:
        return "cpu"
    if value == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"cuda:{value}"
    if not isinstance(value, str | torch.device):
        raise BadInput(f"unknown device {value!r}", remedy="choose cpu, cuda or cuda:<number>", id="device")
    return str(known_device(str(value)))


def _dtype(value: Any, device: str) -> str:
    """A dtype by name or torch's object, as a name."""
    name = "auto" if value is None else str(value).removeprefix("torch.") if isinstance(value, torch.dtype) else value
    if not isinstance(name, str):
        raise BadInput(f"unknown dtype {value!r}", remedy="choose auto, float32, bfloat16, float16 or float64")
    name = name.removeprefix("torch.")
    dtype_of(name, device)
    return name


def _text_or_none(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BadInput(f"expected a text, found {value!r}", remedy="give the name of a branch, tag or commit", id=name)
    return value


def model_name(name_or_path: Any) -> str:
    """A folder or Hub id as text. Raises `BadInput` for anything else and for an empty name."""
    try:
        name = os.fspath(name_or_path)
    except TypeError:
        name = ""
    if not isinstance(name, str) or not name.strip():
        problem = f"expected the name of a model, found {name_or_path!r}"
        raise BadInput(problem, remedy="give a folder or a Hub id, or None for the packaged model")
    return name
