"""A tiny PE-Rank model saved in a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from perank.model.llm import LLMSettings
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.saving.hub import save_pretrained
from support import tiny


def save_tiny_model(folder: Path, *, window: int = 5, step: int = 3) -> Path:
    """Save a random model, its LLM and its encoder under `folder`; return the model's folder."""
    tiny.tiny_llm(3).save_pretrained(folder / "llm")
    tiny.tiny_tokenizer().save_pretrained(folder / "llm")
    settings = LLMSettings(name=str(folder / "llm"), dtype="float32")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        projector = Projector(8, 32)
        for parameter in projector.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    model = PERank(settings.load(), projector).requires_grad_(False)
    parts = {"prompts": tiny.tiny_prompts(), "encoder": tiny.tiny_encoder(folder / "encoder")}
    return save_pretrained(folder / "model", model, llm=settings, window=window, step=step, **parts)
