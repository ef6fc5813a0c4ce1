"""The parts of a run whose LLM reads texts and writes identifiers: RankMistral, RankSmol (`stage=listwise`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from perank.app.assembly import Assembly
from perank.baselines.text_listwise import TextListwise
from perank.evaluation.suites import Suite
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.text_ranker import TextRanker
from perank.saving.saved_text_ranker import save_text_ranker
from perank.sources.views import text_view


class TextAssembly(Assembly):
    """Collection, rows, encoder and baselines are PE-Rank's; prompts, model, ranker and what is saved are its own."""

    system = "text listwise"

    @cached_property
    def prompts(self) -> Any:
        """`ListwisePrompts`."""
        return ListwisePrompts(self.llm.tokenizer(), **self.settings("prompt", ListwisePrompts, "tokenizer"))

    @cached_property
    def model(self) -> Any:
        """`TextRanker`."""
        return TextRanker(self.llm.load())

    def ranker(self, suite: Suite) -> TextListwise:
        """The LLM as it stands, over the suite's texts."""
        view = text_view(self.config.data.text)
        return TextListwise(self.model.llm, self.prompts, windows=self.windows, view=view)

    def save(self, folder: str | Path, state: Mapping[str, Any] | None = None) -> Path:
        """Write the LLM's trained part, for `ranker=trained_listwise`."""
        return save_text_ranker(
            folder,
            self.model,
            llm=self.llm,
            prompts=self.prompts,
            text=self.config.data.text,
            windows=(self.windows.window, self.windows.step),
            state=state,
        )
