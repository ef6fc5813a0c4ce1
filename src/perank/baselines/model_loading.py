"""Load the baselines' models and tokenizers by name; missing or incomplete weights raise `Absent`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perank.errors import Absent, BadInput
from perank.model import LLMSettings, dtype_name, dtype_of, known_device
from perank.model.locate import locate, reading


@contextmanager
def missing_is_absent() -> Iterator[None]:
    """Convert `BadInput` raised while weights are loaded (missing or incomplete) to `Absent`."""
    try:
        yield
    except Absent:
        raise
    except BadInput as error:
        raise Absent(error.problem, remedy=error.remedy, path=error.path, line=error.line, id=error.id) from error


def device_of(name: str) -> str:
    """Resolve a device name; `auto` prefers an accelerator. Raises `BadInput` for a device that doesn't exist."""
    import torch

    if name != "auto":
        return str(known_device(name))
    return "cuda" if torch.cuda.is_available() else "cpu"


def causal(name: str, revision: str | None, dtype: str, device: str) -> tuple[Any, Any]:
    """Load a causal LM in eval mode, and its tokenizer."""
    place = device_of(device)
    settings = LLMSettings(name=name, revision=revision, dtype=dtype_name(dtype, place))
    with missing_is_absent():
        tokenizer, llm = settings.tokenizer(), settings.load()
    return llm.to(place).eval().requires_grad_(False), tokenizer


def with_tokenizer(auto_class: str, name: str, revision: str | None, dtype: str, device: str) -> tuple[Any, Any]:
    """Load a model of that Auto class in eval mode, and its tokenizer. Raises `Absent` if weights are missing."""
    import transformers

    place = device_of(device)
    with missing_is_absent():
        path = locate(name)
        with reading(path):
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, revision=revision or "main")
            model, found = getattr(transformers, auto_class).from_pretrained(
                path, revision=revision or "main", dtype=dtype_of(dtype, place), output_loading_info=True
            )
    if found["missing_keys"]:
        problem = f"its weights lack {', '.join(sorted(found['missing_keys'])[:3])}"
        raise Absent(problem, remedy="use weights that were trained for this", id=name)
    return model.to(place).eval().requires_grad_(False), tokenizer
