"""Check settings against type annotations, and instantiate them. This file has perank's only `instantiate`.

The schema of conf/ is Python: `perank.app.schema` for the top level, and the signature of each `_target_`. A misspelt
key or a value of the wrong type raises `BadInput` with the full key. Checked are plain values (numbers, strings,
booleans, None, sequences of them), and groups whose annotation is a class.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import utils as hydra_utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf

from perank.errors import BadInput

_PLAIN = (bool, int, float, str, types.NoneType)
_TARGETED = "a group of settings with a _target_"


def instantiate(settings: Any, **more: Any) -> Any:
    """Instantiate a config group, or return None for None. Raises `BadInput` if its constructor doesn't accept it."""
    if settings is not None and (not OmegaConf.is_dict(settings) or _lacks_target(settings)):
        place = settings._get_full_key(None) if OmegaConf.is_config(settings) else repr(settings)
        raise BadInput(f"expected {_TARGETED}", remedy="see conf/ for the groups", id=place)
    _check_targets(settings, more)
    try:
        return hydra_utils.instantiate(settings, **more, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, BadInput):
            raise cause from error
        # A value out of range, a missing device or package; other causes are bugs.
        kinds = [ValueError, ImportError, *([] if str(settings.get("_target_")).startswith("perank.") else [TypeError])]
        if isinstance(cause, tuple(kinds)) or type(cause).__name__ == "MisconfigurationException":
            place, said = settings._get_full_key(None), " ".join(str(cause).split())
            raise BadInput(said, remedy=f"see conf/{place.partition('.')[0]}", id=place) from error
        raise


def as_dict(settings: Any) -> dict[str, Any]:
    """Convert a config group to a dict of plain values. Raises `BadInput` for anything else."""
    is_group = OmegaConf.is_dict(settings)
    content = OmegaConf.to_container(settings, resolve=True, throw_on_missing=True) if is_group else settings
    if not isinstance(content, dict):
        raise BadInput(f"expected a group of settings, found {content!r}", remedy="see conf/ for the groups")
    return {str(key): value for key, value in content.items()}


def check_config(schema: type, config: DictConfig) -> None:
    """Raise `BadInput` if the top level of a composed config doesn't match the dataclass `schema`."""
    hints = typing.get_type_hints(schema)
    settings: dict[str, Any] = {}
    for key in map(str, config):
        if OmegaConf.is_missing(config, key):
            raise BadInput("a setting has no value", remedy=f"give {key} one", id=key)
        value = config[key]
        known = OmegaConf.is_list(value) or (OmegaConf.is_dict(value) and is_dataclass(hints.get(key)))
        settings[key] = OmegaConf.to_container(value, resolve=True) if known else value  # others are checked when used
        if value == "":
            raise BadInput("an empty text (of an unset variable?)", remedy=f"give {key} a value", id=key)
    check_arguments(schema, settings, "")
    schema(**settings)


def check_arguments(
    call: Callable[..., Any],
    settings: Mapping[str, Any],
    place: str,
    given: Collection[str] = (),
    *,
    partial: bool = False,
) -> None:
    """Raise `BadInput` unless `call` accepts these settings in addition to the arguments `given`.

    With `partial`, required arguments may be missing. The error names `place` and the key.
    """
    parameters = inspect.signature(call).parameters
    takes = {name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        check_keys(settings, takes - set(given), place)
    for name in takes - settings.keys() - set(given):
        if parameters[name].default is inspect.Parameter.empty and not partial:
            id = _under(place, name)
            raise BadInput("a setting is missing", remedy=f"give {id} a value", id=id)
    hints = _hints(call)
    for key, value in settings.items():
        check_type(value, hints.get(key, Any), _under(place, key))


def check_keys(settings: Collection[str], known: Collection[str], place: str, other: str = "") -> None:
    """Raise `BadInput` for an unknown key; the remedy lists similar ones, and then the `other` one, if any."""
    for key in settings:
        if key not in known:
            close = get_close_matches(key, known, n=3) or sorted(known)
            problem = f"{place} has no such setting" if place else "no such setting"
            remedy = f"choose among {', '.join(close)}" + (f", or {other}" if other else "")
            raise BadInput(problem, remedy=remedy, id=_under(place, key))


def check_type(value: Any, hint: Any, place: str) -> None:
    """Raise `BadInput` for a value that isn't of the annotated type, or a number that isn't finite."""
    if not _fits(value, hint):
        is_group = is_dataclass(hint) or typing.get_origin(hint) is Mapping
        expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        of_class = any(isinstance(kind, type) and kind not in (*_PLAIN, Path) for kind in _options(hint))
        expected = _TARGETED if of_class and _lacks_target(value) else "a group of settings" if is_group else expected
        raise BadInput(f"expected {expected}, found {value!r}", remedy="use a value of that type", id=place)
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        check_arguments(hint, value, place)
    for kind in _options(hint) if _lacks_target(value) else ():
        if typing.get_origin(kind) is Mapping and typing.get_args(kind)[1] is not Any:
            for key in value:
                check_type(value[key], typing.get_args(kind)[1], _under(place, str(key)))


def _check_targets(node: Any, more: Collection[str] = ()) -> None:
    """Run `check_arguments` for every `_target_` in a config, at any depth."""
    if OmegaConf.is_list(node):
        for item in node:
            _check_targets(item)
    if not OmegaConf.is_dict(node):
        return
    place = node._get_full_key(None)
    if missing := next((str(key) for key in node if OmegaConf.is_missing(node, key)), None):
        raise BadInput("a setting has no value", remedy=f"give {place}.{missing} one", id=f"{place}.{missing}")
    if "_target_" in node:
        settings = {str(key): node[key] for key in node if not str(key).startswith("_")}
        call, partial = import_target(node["_target_"], place), bool(node.get("_partial_"))
        check_arguments(call, settings, place, more, partial=partial)
    for key in node:
        _check_targets(node[key])


def import_target(name: Any, place: str) -> Callable[..., Any]:
    """Import the class or function with a dotted name. Raises `BadInput` if that fails."""
    try:
        found: Callable[..., Any] = hydra_utils.get_object(name)
        inspect.signature(found)  # neither a module nor a constant
    except Exception as error:  # importing the module can raise anything
        said = " ".join(str(error).split())
        raise BadInput(
            f"{name!r} can't be imported: {said}", remedy="check _target_ and what is installed", id=place
        ) from error
    return found


def _under(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    try:
        function: Any = call.__init__ if isinstance(call, type) else call  # type: ignore[misc]
        return typing.get_type_hints(function)
    except (NameError, TypeError):  # annotations that only a type checker can read
        return {}


def _fits(value: Any, hint: Any) -> bool:
    return any(_fits_one(value, option) for option in _options(hint))


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _fits_one(value: Any, kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in _PLAIN:
        return isinstance(value, kind)
    if kind is Path:
        return isinstance(value, str | Path)
    if origin is Mapping:
        return not isinstance(value, (*_PLAIN, Sequence))
    if is_dataclass(kind):
        return not isinstance(value, (*_PLAIN, Sequence)) and not _lacks_target(value)
    if origin is tuple and Ellipsis not in arguments:
        return _is_list(value) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin in (list, tuple, Sequence):
        return _is_list(value) and all(_fits(item, arguments[0]) for item in value)
    return not _lacks_target(value) or _takes_dict(origin or kind)


def _lacks_target(value: Any) -> bool:
    """Whether a value is a group of a config that stays a dictionary, as no class is named to instantiate it."""
    return OmegaConf.is_dict(value) and "_target_" not in value


def _takes_dict(kind: Any) -> bool:
    """Whether an annotation without arguments accepts a dictionary: Any and the like do, other classes don't."""
    if kind is Any or not isinstance(kind, type):
        return True
    return not getattr(kind, "_is_protocol", False) and issubclass(dict, kind)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
