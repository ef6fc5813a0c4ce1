"""A loaded PE-Rank model with its prompts and encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """The model with its prompt builder and passage encoder, in eval mode.

    `llm` holds the settings that the LLM was loaded with; the defaults of `window` and `step` are the paper's.
    """

    model: PERank
    prompts: PromptBuilder
    encoder: Encoder
    llm: LLMSettings
    window: int = 20
    step: int = 10
    folder: Path
