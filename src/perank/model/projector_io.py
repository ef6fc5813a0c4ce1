"""Read and write a projector's four tensors: projector.safetensors of the align stage, projector.bin of the authors'
first stage (a torch file), and full models of both kinds.

Keys are `[model.projector.]{0,2}.{weight,bias}`; on loading only the part after `projector.` is used. Torch files are
unpickled with `weights_only`, so untrusted files can't run code.
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
    """Load `projector_state(source)`. Raises `BadInput` as it does, and for other keys, widths or non-finite values."""
    state, path = projector_state(source)
    found = projector_of(state, path=path, width_in=projector.width_in, width_out=projector.width_out)
    projector.load_state_dict(found.state_dict())


def save_projector(projector: Projector, path: str | Path) -> None:
    """Write stage 1's result for stage 2 atomically: four fp32 tensors."""
    from safetensors.torch import save

    state = {name: value.detach().float().cpu().contiguous() for name, value in projector.state_dict().items()}
    with atomic_write(path, "wb") as file:
        file.write(save(state))


def read_authors_projector(path: str | Path, *, width_in: int | None = None, width_out: int | None = None) -> Projector:
    """Read a `projector.bin` in fp32. Raises `BadInput` for unexpected keys or widths, or non-finite values."""
    try:
        found: Any = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise BadInput("no such file", remedy="check the path", path=path) from error
    except Exception as error:  # corrupt zips and pickles raise many types
        problem = f"no torch file of tensors: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise BadInput(problem, remedy="fetch the file again", path=path) from error
    if not isinstance(found, Mapping) or not all(isinstance(key, str) for key in found):
        raise BadInput("expected tensors by name", remedy=_REMEDY, path=path)
    state = {key.rpartition("projector.")[2]: value for key, value in found.items()}
    if len(state) < len(found):
        raise BadInput("two tensors have the same name behind 'projector.'", remedy=_REMEDY, path=path)
    return projector_of(state, path=path, width_in=width_in, width_out=width_out)


def write_authors_projector(path: str | Path, projector: Projector) -> None:
    """Write a projector atomically, in the format of the authors' first stage."""
    state = {AUTHORS_PREFIX + key: value.detach().cpu().contiguous() for key, value in projector.state_dict().items()}
    with atomic_write(path, "wb") as file:
        torch.save(state, file)


def projector_of(
    state: Mapping[str, Any], *, path: str | Path, width_in: int | None = None, width_out: int | None = None
) -> Projector:
    """Build an fp32 projector from tensors (keys from `0.weight` on). Raises `BadInput` as the file readers do."""
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

    Raises `BadInput` if the file, folder or repository is missing, unreadable, or contains no projector.
    """
    for path in _files(source):
        if path.suffix == ".bin":
            return dict(read_authors_projector(path).state_dict()), path
        if state := {key.rpartition("projector.")[2]: value for key, value in _tensors(path).items()}:
            return state, path
    raise BadInput("no projector tensors found", remedy=_NO_PROJECTOR, path=source)


def _files(source: str | Path) -> list[Path]:
    """The file `source`, or the files of a folder or repository that may contain a projector."""
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
    except Exception as error:  # unknown, gated, offline, missing: the Hub's client raises many types
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        problem = f"no such file, and the Hub can't provide it: {said}"
        raise BadInput(problem, remedy=f"{_NO_PROJECTOR}, or check the connection", id=name) from error


def _shards(path: Path, get: Any) -> list[Path]:
    """`path`, or if it is an index, its shards with the projector's tensors."""
    if path.suffix != ".json":
        return [path]
    content = read_json(path)
    placed = content.get("weight_map") if isinstance(content, dict) else None
    names = {name for key, name in placed.items() if "projector." in key} if isinstance(placed, dict) else set()
    if len(names) != 1 or any(not isinstance(name, str) or name != Path(name).name for name in names):
        raise BadInput("its weight_map names no file with the whole projector", remedy=_NO_PROJECTOR, path=path)
    return [get(name) for name in names]


def _tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file's projector tensors, or all tensors of a small file; an LLM's weights are skipped."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            keys = list(file.keys())
            named = [key for key in keys if "projector." in key] or (keys if len(keys) <= 8 else [])
            return {key: file.get_tensor(key) for key in named}
    except FileNotFoundError as error:
        raise BadInput("no such file", remedy=_NO_PROJECTOR, path=path) from error
    except (SafetensorError, OSError) as error:
        problem = f"not a safetensors file: {str(error).splitlines()[-1].strip()}"
        raise BadInput(problem, remedy=_NO_PROJECTOR, path=path) from error
