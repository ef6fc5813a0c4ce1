"""Load the saved model that `model` names, with the suites to evaluate it on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from perank.app.inputs import Inputs
from perank.app.run_suites import RunSuites
from perank.errors import BadInput
from perank.model import LLMSettings
from perank.planning.random_llm import random_mistral
from perank.saving.calibration import CALIBRATION, Calibration, read_calibration, write_calibration
from perank.saving.hub import from_pretrained
from perank.saving.pretrained import Pretrained
from perank.saving.saved_text_ranker import is_text_ranker


class SavedModel(Inputs):
    """`model` is a folder, a Hub id, "box" (the model in the package), "random-7b", or null.

    The model's own encoder replaces the one in the config.
    """

    @cached_property
    def pretrained(self) -> Pretrained | None:
        """The PE-Rank model; None if `model` is null or a ranker that reads texts."""
        name, dtype = self.config.model, self.config.dtype
        if name is None or is_text_ranker(name):
            return None
        if name == "random-7b":
            return self._random(dtype)
        return from_pretrained(None if name == "box" else name, device=self.device, dtype=dtype)

    @property
    def pe_rank(self) -> Pretrained:
        """`pretrained`. Raises `BadInput` if it is None."""
        if self.pretrained is None:
            raise BadInput("not a PE-Rank model", remedy="name the folder of a saved one", id="model")
        return self.pretrained

    @cached_property
    def calibration(self) -> Calibration | None:
        """The one that `calibration` names, or the model's own."""
        named = self.config.calibration
        return self.pe_rank.calibration if named is None else read_calibration(named, self.pe_rank.sha256)

    def save_calibration(self, fit: Callable[[str], Calibration]) -> Path:
        """Write what `fit` returns for the model's digest to where `calibrate` says; return the path."""
        path = self.calibration_path
        write_calibration(fit(self.pe_rank.sha256), path)
        return path

    def check_calibration(self) -> None:
        """Raise `BadInput` for unusable settings of calibrations, which would otherwise fail late or not at all."""
        if self.config.calibration is not None:
            _ = self.calibration
        if self.config.calibrate and self.pe_rank:
            _ = self.calibration_path

    @property
    def calibration_path(self) -> Path:
        """Where `calibrate` says. Raises `BadInput` for a model without a folder of its own, unless it is a path."""
        wanted, model = self.config.calibrate, self.config.model
        if isinstance(wanted, str):
            return Path(wanted)
        if model is None or not Path(model).is_dir():
            remedy = "give the folder of a saved model, or calibrate=<file>"
            raise BadInput(f"the calibration of {model!r} has no place", remedy=remedy, id="calibrate")
        return Path(model) / CALIBRATION

    @cached_property
    def encoder(self) -> Any:
        return self.make("encoder") if self.pretrained is None else self.pretrained.encoder

    @cached_property
    def suites(self) -> RunSuites:
        return RunSuites(self)

    def _random(self, dtype: str) -> Pretrained:
        """Create a random model of Mistral-7B's shape, with the config's encoder and prompt."""
        tokenizer, encoder = LLMSettings().tokenizer(), self.make("encoder", device=self.device)
        prompts = self.make("prompt")(tokenizer)
        model = random_mistral(len(tokenizer), width=encoder.width, device=self.device, dtype=dtype)
        llm = LLMSettings(name="random, Mistral-7B's shape")
        return Pretrained(model=model, prompts=prompts, encoder=encoder, llm=llm, folder=Path())
