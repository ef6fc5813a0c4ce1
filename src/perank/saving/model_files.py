"""The files of a saved model other than config.json: model.safetensors, and `llm/` if the whole LLM was trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from perank.errors import BadInput
from perank.files import atomic_folder, atomic_write, sha256
from perank.model import dtype_of
from perank.model.locate import expanded, no_bars

CONFIG, WEIGHTS, OWN_LLM = "config.json", "model.safetensors", "./llm"


def saved_name(name: str) -> str:
    """The name of an LLM or encoder as it is saved: folders by their whole path, so that it holds in other folders."""
    path = Path(expanded(name))
    return str(path.absolute()) if path.is_dir() else name


def found_name(name: str, folder: Path) -> str:
    """A saved name: `./llm` and other paths that begin with a dot are relative to the model's folder, if they exist."""
    own = folder / name
    return str(own) if name == OWN_LLM or (name.startswith(".") and own.is_dir()) else name


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


def local_folder(name_or_path: str | os.PathLike[str], revision: str | None, *, code: bool = False, **hub: Any) -> Path:
    """Return the folder itself, or download a Hub repository; Python files only if `code`.

    `hub` are options of the download. Raises `BadInput` if it is neither.
    """
    path = Path(expanded(os.fspath(name_or_path)))
    if path.is_dir():
        return path
    if path.is_file():
        raise BadInput("expected the folder of a model, found a file", remedy="name its folder", path=path)
    if path.is_absolute() or str(name_or_path).startswith((".", "~")):
        raise BadInput("no such folder", remedy="check the path", path=path, id=str(name_or_path))
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.md", *(["*.py"] if code else [])]
    try:
        return Path(snapshot_download(str(name_or_path), revision=revision, allow_patterns=wanted, **hub))
    except (OSError, ValueError, RuntimeError) as error:  # unknown, gated, offline or an invalid name
        problem = f"neither a folder nor available on the Hub: {str(error).strip().splitlines()[0][:200]}"
        raise BadInput(problem, remedy=_remedy(error), id=str(name_or_path)) from error


def _remedy(error: Exception) -> str:
    """What to do about an error of the Hub."""
    from huggingface_hub import errors

    match error:
        case errors.GatedRepoError():
            return "request access on the model's page, then run `hf auth login`"
        case errors.RevisionNotFoundError():
            return "check the revision: a branch, a tag or a commit of the repository"
        case errors.RepositoryNotFoundError():
            return "check the name; a private repository needs `hf auth login`"
    return "check the name and the connection"
