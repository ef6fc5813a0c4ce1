"""A projector by itself, wherever it lies: what an align run left, what the authors' code left, or inside a checkpoint.

projector.safetensors                      of an align run; projector.bin: of the authors' first stage
a folder                                   a run's, a saved model's, or a checkpoint in the authors' layout
liuqi6777/pe-rank-mistral-jina             such a checkpoint on the Hub: of its shards, those with the projector
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from perank.errors import BadInput
from perank.files import read_json
from perank.model.projector_file import read_projector

_FILES = ("projector.safetensors", "projector.bin", "model.safetensors.index.json", "model.safetensors")
_REMEDY = "name the projector of an align run"


def projector_state(source: str | Path) -> tuple[dict[str, Tensor], Path]:
    """The projector's tensors (keys from `0.weight` on) and the file they lie in.

    Raises `BadInput` where there is no such file, folder or repository, it can't be read, or holds no projector.
    """
    for path in _files(source):
        if path.suffix == ".bin":
            return dict(read_projector(path).state_dict()), path
        if state := {key.rpartition("projector.")[2]: value for key, value in _tensors(path).items()}:
            return state, path
    raise BadInput("no tensors of a projector in there", remedy=_REMEDY, path=source)


def _files(source: str | Path) -> list[Path]:
    """The file that `source` is, or those of a folder or repository that may hold a projector."""
    path = Path(source)
    if path.is_dir():
        name = next((name for name in _FILES if (path / name).is_file()), None)
        if name is None:
            raise BadInput(f"none of {', '.join(_FILES)} in this folder", remedy=_REMEDY, path=path)
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
        raise BadInput(problem, remedy=f"{_REMEDY}, or check the connection", id=name) from error


def _shards(path: Path, get: Any) -> list[Path]:
    """`path`, or the shards that an index names for the projector's tensors."""
    if path.suffix != ".json":
        return [path]
    content = read_json(path)
    placed = content.get("weight_map") if isinstance(content, dict) else None
    names = {name for key, name in placed.items() if "projector." in key} if isinstance(placed, dict) else set()
    if len(names) != 1 or any(not isinstance(name, str) or name != Path(name).name for name in names):
        raise BadInput("its weight_map names no file with the whole projector", remedy=_REMEDY, path=path)
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
        raise BadInput("there is no such file", remedy=_REMEDY, path=path) from error
    except (SafetensorError, OSError) as error:
        problem = f"not a safetensors file: {str(error).splitlines()[-1].strip()}"
        raise BadInput(problem, remedy=_REMEDY, path=path) from error
