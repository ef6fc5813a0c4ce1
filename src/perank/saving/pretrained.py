"""A loaded PE-Rank model with everything it needs, also from a checkpoint in the authors' layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.model.pe_rank import PERank
from perank.model.precision import dtype_of
from perank.model.prompts import PromptBuilder


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A loaded model with everything it needs. `llm` are the settings it was loaded with."""

    model: PERank
    prompts: PromptBuilder
    encoder: Encoder
    llm: LLMSettings
    window: int
    step: int
    folder: Path


def of_the_authors(folder: Path, *, device: str, dtype: str) -> Pretrained:
    """The paper's windows are the defaults, its encoder is the one that the checkpoint names."""
    from perank.saving.authors_checkpoint import read_published

    kind = str(dtype_of(dtype, device)).removeprefix("torch.")
    found = read_published(folder, dtype=kind)
    encoder = Encoder(found.encoder.name, pooling=found.encoder.pooling, dtype=dtype, device=device)
    found.model.to(device).requires_grad_(False)
    return Pretrained(found.model, found.prompts, encoder, LLMSettings(name=str(folder), dtype=kind), 20, 10, folder)
