"""A loaded PE-Rank model with its prompts and encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perank.model import Encoder, LLMSettings, PERank, PromptBuilder
from perank.saving.calibration import Calibration, calibration_in, digest_in


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

    @property
    def sha256(self) -> str:
        """The digest of the weights in the folder's config.json; "" for a model without."""
        return digest_in(self.folder)

    @property
    def calibration(self) -> Calibration | None:
        """The folder's calibration, if it has one. Raises `BadInput` for a damaged file, or one of other weights."""
        return calibration_in(self.folder)
