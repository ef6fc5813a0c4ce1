"""Inference between training steps: in eval mode and the LLM's dtype, with the model's state restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from perank.model.precision import autocast_for


@contextmanager
def inference(model: nn.Module, llm: nn.Module) -> Iterator[None]:
    """Switch to eval mode and restore every module's mode at exit. `llm` is the part of `model` that sets the dtype."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with autocast_for(llm, next(llm.parameters()).device):
            yield
    finally:
        for module in training:
            module.training = True
