"""Inference between training steps: in eval mode and the LLM's dtype, with the model's state restored afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from perank.model import autocast_for


@contextmanager
def inference(model: nn.Module, llm: nn.Module) -> Iterator[None]:
    """Switch to eval mode and restore every module's mode at exit. `llm` is the part of `model` that sets the dtype."""
    _keep_forks_working()
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with autocast_for(llm, next(llm.parameters()).device):
            yield
    finally:
        for module in training:
            module.training = True


@cache
def _keep_forks_working() -> None:
    """Let processes that are forked from now on compute on one thread: OpenMP's pool doesn't survive a fork.

    With more threads, their first product would wait forever. PyTorch's own data loading workers do the same.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
