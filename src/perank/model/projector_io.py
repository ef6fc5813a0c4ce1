"""A projector's four tensors in files: projector.safetensors of the align stage, projector.bin of the authors' first
stage (a torch file), and both kinds of whole models.

Keys are `[model.projector.]{0,2}.{weight,bias}`; on loading only the text after `projector.` counts. Of torch files
tensors alone are unpickled (`weights_only`), so a file from elsewhere can't run code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.files import atomic_write, read_json
from perank.model.projector import Projector

AUTHORS_PREFIX = "model.projector."
_REMEDY = "name a projector of type mlp2x_gelu"


_FILES = ("projector.safetensors", "projector.bin", "model.safetensors.index.json", "model.safetensors")
_NO_PROJECTOR = "name the projector of an align run"


def load_projector(projector: Projector, source: str | Path) -> None:
    """Load what `projector_state` reads. Raises `BadInput` for that, other keys or widths, and values not finite."""
    state, path = projector_state(source)
    found = projector_of(state, path=path, width_in=projector.width_in, width_out=projector.width_out)
    projector.load_state_dict(found.state_dict())


def save_projector(projector: Projector, path: str | Path) -> None:
    """Write what stage 1 hands to stage 2: four fp32 tensors, atomically."""
    from safetensors.torch import save

    state = {name: value.detach().float().cpu().contiguous() for name, value in projector.state_dict().items()}
    with atomic_write(path, "wb") as file:
        file.write(save(state))


def read_authors_projector(path: str | Path, *, width_in: int | None = None, width_out: int | None = None) -> Projector:
    """The projector in a `projector.bin`, in fp32. Raises `BadInput` for other keys, widths than asked for, or
    values that aren't finite."""
    try:
        found: Any = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise BadInput("there is no such file", remedy="check the path", path=path) from error
    except Exception as error:  # a broken zip or pickle raises whatever its bytes happen to spell
        problem = f"no torch file of tensors: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise BadInput(problem, remedy="fetch the file again", path=path) from error
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise BadInput("expected tensors by name", remedy=_REMEDY, path=path)
    state = {key.rpartition("projector.")[2]: value for key, value in found.items()}
    if len(state) < len(found):
        raise BadInput("two tensors have the same name behind 'projector.'", remedy=_REMEDY, path=path)
    return projector_of(state, path=path, width_in=width_in, width_out=width_out)


def write_authors_projector(path: str | Path, projector: Projector) -> None:
    """Write a projector as the authors' first stage does, atomically."""
    state = {AUTHORS_PREFIX + key: value.detach().cpu().contiguous() for key, value in projector.state_dict().items()}
    with atomic_write(path, "wb") as file:
        torch.save(state, file)


def projector_of(
    state: Mapping[str, Any], *, path: str | Path, width_in: int | None = None, width_out: int | None = None
) -> Projector:
    """A projector with these tensors (keys from `0.weight` on), in fp32. Raises `BadInput` as the readers of files."""
    _check_keys(state, path)
    rows, columns = state["0.weight"].shape
    for name, found, wanted in (("in", columns, width_in), ("out", rows, width_out)):
        if wanted is not None and found != wanted:
            raise BadInput(
                f"the projector's width {name} is {found}, expected {wanted}",
                remedy="use the projector trained for this encoder and LLM",
                path=path,
            )
    shapes = {"0.weight": (rows, columns), "0.bias": (rows,), "2.weight": (rows, rows), "2.bias": (rows,)}
    for key, shape in shapes.items():
        if tuple(state[key].shape) != shape:
            problem = f"projector.{key} has the shape {list(state[key].shape)}, expected {list(shape)}"
            raise BadInput(problem, remedy=_REMEDY, path=path)
        if not state[key].isfinite().all():
            raise BadInput(f"projector.{key} holds values that aren't finite", remedy="train it again", path=path)
    projector = Projector(columns, rows)
    projector.load_state_dict({key: value.float() for key, value in state.items()})
    return projector


def _check_keys(state: Mapping[str, Any], path: str | Path) -> None:
    expected = {"0.weight", "0.bias", "2.weight", "2.bias"}
    if set(state) != expected:
        missing, unknown = sorted(expected - set(state)), sorted(set(state) - expected)
        raise BadInput(
            f"the projector's tensors are not those expected (missing: {missing[:4]}, unknown: {unknown[:4]})",
            remedy=_REMEDY,
            path=path,
        )
    for key, value in state.items():
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout != torch.strided:
            raise BadInput(f"projector.{key} is not a plain floating point tensor", remedy=_REMEDY, path=path)
    if state["0.weight"].dim() != 2 or 0 in state["0.weight"].shape:
        problem = f"projector.0.weight has the shape {list(state['0.weight'].shape)}, expected two widths"
        raise BadInput(problem, remedy=_REMEDY, path=path)


def projector_state(source: str | Path) -> tuple[dict[str, Tensor], Path]:
    """The projector's tensors (keys from `0.weight` on) and the file they come from.

    Raises `BadInput` where there is no such file, folder or repository, it can't be read, or holds no projector.
    """
    for path in _files(source):
        if path.suffix == ".bin":
            return dict(read_authors_projector(path).state_dict()), path
        if state := {key.rpartition("projector.")[2]: value for key, value in _tensors(path).items()}:
            return state, path
    raise BadInput("no tensors of a projector in there", remedy=_NO_PROJECTOR, path=source)


def _files(source: str | Path) -> list[Path]:
    """The file that `source` is, or those of a folder or repository that may hold a projector."""
    path = Path(source)
    if path.is_dir():
        name = next((name for name in _FILES if (path / name).is_file()), None)
        if name is None:
            raise BadInput(f"none of {', '.join(_FILES)} in this folder", remedy=_NO_PROJECTOR, path=path)
        return _shards(path / name, lambda shard: path / shard)
    if not path.is_file() and path.suffix == "" and len(path.parts) == 2 and not path.is_absolute():
        return _from_hub(str(source))
    return [path]


def _from_hub(name: str) -> list[Path]:
    from huggingface_hub import HfApi, hf_hub_download

    try:
        there = set(HfApi().list_repo_files(name))
        first = next(file for file in _FILES if file in there)
        found = Path(hf_hub_download(name, first))
        return _shards(found, lambda shard: Path(hf_hub_download(name, shard)))
    except BadInput:
        raise
    except Exception as error:  # unknown, gated, offline, no such file: the Hub's client raises many kinds
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        problem = f"there is no such file, and the Hub doesn't give it: {said}"
        raise BadInput(problem, remedy=f"{_NO_PROJECTOR}, or check the connection", id=name) from error


def _shards(path: Path, get: Any) -> list[Path]:
    """`path`, or the shards that an index names for the projector's tensors."""
    if path.suffix != ".json":
        return [path]
    content = read_json(path)
    placed = content.get("weight_map") if isinstance(content, dict) else None
    names = {name for key, name in placed.items() if "projector." in key} if isinstance(placed, dict) else set()
    if len(names) != 1 or any(not isinstance(name, str) or name != Path(name).name for name in names):
        raise BadInput("its weight_map names no file with the whole projector", remedy=_NO_PROJECTOR, path=path)
    return [get(name) for name in names]


def _tensors(path: Path) -> dict[str, Tensor]:
    """Of a safetensors file what is named a projector's, or all of a small one; the rest of an LLM isn't read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
            named = [key for key in keys if "projector." in key] or (keys if len(keys) <= 8 else [])
            return {key: file.get_tensor(key) for key in named}
    except FileNotFoundError as error:
        raise BadInput("there is no such file", remedy=_NO_PROJECTOR, path=path) from error
    except (SafetensorError, OSError) as error:
        problem = f"not a safetensors file: {str(error).splitlines()[-1].strip()}"
        raise BadInput(problem, remedy=_NO_PROJECTOR, path=path) from error
