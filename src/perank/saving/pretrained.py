"""A loaded PE-Rank model with everything it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """The model, the builder of its prompts and the encoder of its passages, in eval mode, nothing trainable.

    `llm` are the settings that its LLM was loaded with; the defaults of `window` and `step` are the paper's.
    """

    model: PERank
    prompts: PromptBuilder
    encoder: Encoder
    llm: LLMSettings
    window: int = 20
    step: int = 10
    folder: Path
