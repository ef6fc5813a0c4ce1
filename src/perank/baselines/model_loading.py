"""Weights by name for the baselines, on a device; what isn't here or isn't whole is `Absent`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perank.errors import Absent, BadInput
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.llm import LLMSettings
from perank.model.locate import locate, reading
from perank.model.precision import dtype_name, dtype_of, known_device
from perank.sources.views import TextView, text_view


@contextmanager
def fetching() -> Iterator[None]:
    """Around loading weights: what goes wrong is that they aren't here, or not whole."""
    try:
        yield
    except Absent:
        raise
    except BadInput as error:
        raise Absent(error.problem, remedy=error.remedy, path=error.path, line=error.line, id=error.id) from error


def device_of(name: str) -> str:
    """`auto` is an accelerator where there is one. Raises `BadInput` for a device that isn't here."""
    import torch

    if name != "auto":
        return str(known_device(name))
    return "cuda" if torch.cuda.is_available() else "cpu"


def view_of(text: str) -> TextView:
    """`text_view`, whose file may be absent too."""
    with fetching():
        return text_view(text)


def causal(
    name: str, revision: str | None, dtype: str, device: str, prompt: str, max_length: int, text_tokens: int | None
) -> tuple[Any, ListwisePrompts]:
    """A causal LM in eval mode, and prompts of that version for its tokenizer."""
    place = device_of(device)
    settings = LLMSettings(name=name, revision=revision, dtype=dtype_name(dtype, place))
    with fetching():
        tokenizer, llm = settings.tokenizer(), settings.load()
    prompts = ListwisePrompts(tokenizer, prompt, max_length=max_length, text_tokens=text_tokens)
    return llm.to(place).eval().requires_grad_(False), prompts


def loaded(kind: Any, name: str, revision: str | None, dtype: str, device: str) -> tuple[Any, Any]:
    """A model of that Auto class in eval mode, whole, and its tokenizer."""
    from transformers import AutoTokenizer

    place = device_of(device)
    with fetching():
        path = locate(name)
    with fetching(), reading(path):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision or "main")
        model, found = kind.from_pretrained(
            path, revision=revision or "main", dtype=dtype_of(dtype, place), output_loading_info=True
        )
    if found["missing_keys"]:
        problem = f"its weights lack {', '.join(sorted(found['missing_keys'])[:3])}"
        raise Absent(problem, remedy="use weights that were trained for this", id=name)
    return model.to(place).eval().requires_grad_(False), tokenizer
