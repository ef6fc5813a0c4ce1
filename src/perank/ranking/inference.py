"""Using a model between two training steps: in eval mode, in the LLM's own number type, and afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from perank.model.precision import autocast_for


@contextmanager
def inference(model: nn.Module, llm: nn.Module) -> Iterator[None]:
    """Eval mode inside, afterwards every module's own mode again. `llm` is the part of `model` whose type counts."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with autocast_for(llm, next(llm.parameters()).device):
            yield
    finally:
        for module in training:
            module.training = True
