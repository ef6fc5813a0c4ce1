"""The suites of a run, with what evaluation needs: candidates' vectors, baselines, PE-Rank over the candidates."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property
from typing import Any

from omegaconf import DictConfig

from perank.app.inputs import Inputs
from perank.app.settings import instantiate
from perank.baselines.encoder_ranker import EncoderRanker
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.retrieval.encoding import finished_store
from perank.retrieval.store import EmbeddingStore

_LARGE_CORPUS = 1_000_000  # passages; for larger ones, a store of the full corpus is not looked for


class RunSuites(list[Suite]):
    """The suites of the config group `suite`."""

    def __init__(self, inputs: Inputs) -> None:
        chosen = {str(name): settings for name, settings in inputs.config.suite.items() if settings}
        super().__init__(_suite(name, settings, inputs.config) for name, settings in chosen.items())
        self.inputs = inputs
        # Cached per object: a cache on the class would keep every job's model during a sweep.
        self.candidate_store = cache(self._candidate_store)
        self.baselines = cache(self._baselines)

    def _candidate_store(self, suite: Suite) -> EmbeddingStore:
        """Return vectors of the suite's candidates, encoded once, or the store of its whole corpus if one exists."""
        name, passages = suite.collection.name, suite.collection.passages
        whole = finished_store(name, passages, self.inputs.encoder) if len(passages) <= _LARGE_CORPUS else None
        if whole is not None:
            return whole
        wanted = {passage.id: passage for found in suite.candidates() for passage in found.passages}
        if len(passages) <= 2 * len(wanted):
            return self.inputs.encoded(name, passages)
        return self.inputs.encoded(f"{name}-candidates", wanted)

    def _baselines(self, suite: Suite, encoder: bool = True) -> list[Evaluation]:
        """Evaluate the order of the first stage and, optionally, of the encoder."""
        first = evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)
        if not encoder:
            return [first]
        ranker = EncoderRanker(self.inputs.encoder, self.candidate_store(suite))
        return [first, evaluate_ranker(ranker, suite, system="encoder", progress=False)]

    @cached_property
    def windows(self) -> Windows:
        """The sliding windows of the config group `window`."""
        windows: Windows = self.inputs.make("window")
        return windows

    def reranker(self, model: Any, prompts: Any, suite: Suite) -> Reranker:
        """Return PE-Rank over a suite's candidates, with the configured windows and decoder."""
        return Reranker(
            model,
            prompts,
            self.inputs.encoder,
            windows=self.windows,
            decoder=self.inputs.config.decoding,
            store=self.candidate_store(suite),
        )


def _suite(name: str, settings: DictConfig, config: DictConfig) -> Suite:
    """Instantiate a suite, named after its key unless its settings have a name, with the config's `on_failure`."""
    suite: Suite = instantiate(settings, **({} if "name" in settings else {"name": name}))
    own = "on_failure" in settings or "on_failure" not in config
    return suite if own else replace(suite, on_failure=config.on_failure)
