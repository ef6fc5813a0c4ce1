"""The suites of a run, with what measuring on them takes: candidates' vectors, baselines, PE-Rank over candidates."""

from __future__ import annotations

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

_LARGE_CORPUS = 1_000_000  # passages; above, do not look for a store of the full corpus


class RunSuites(list[Suite]):
    """The suites of the config group `suite`."""

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(_suite(str(name), settings) for name, settings in inputs.config.suite.items() if settings)
        self.inputs = inputs
        # Each object's own: a cache of the class would keep every job's model for the rest of a sweep.
        self.candidate_store = cache(self._candidate_store)
        self.baselines = cache(self._baselines)

    def _candidate_store(self, suite: Suite) -> EmbeddingStore:
        """Vectors of a suite's candidates, encoded once; of its whole corpus where those are there already."""
        name, passages = suite.collection.name, suite.collection.passages
        whole = finished_store(name, passages, self.inputs.encoder) if len(passages) <= _LARGE_CORPUS else None
        if whole is not None:
            return whole
        wanted = {passage.id: passage for found in suite.candidates() for passage in found.passages}
        if len(passages) <= 2 * len(wanted):
            return self.inputs.encoded(name, passages)
        return self.inputs.encoded(f"{name}-candidates", wanted)

    def _baselines(self, suite: Suite, encoder: bool = True) -> list[Evaluation]:
        """The first stage's own order, and the encoder's."""
        first = evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)
        if not encoder:
            return [first]
        ranker = EncoderRanker(self.inputs.encoder, self.candidate_store(suite))
        return [first, evaluate_ranker(ranker, suite, system="encoder", progress=False)]

    @cached_property
    def windows(self) -> Windows:
        """What `window` says."""
        windows: Windows = self.inputs.make("window")
        return windows

    def reranker(self, model: Any, prompts: Any, suite: Suite) -> Reranker:
        """PE-Rank over a suite's candidates, as `window` and `decoding` say."""
        return Reranker(
            model,
            prompts,
            self.inputs.encoder,
            windows=self.windows,
            decoder=self.inputs.config.decoding,
            store=self.candidate_store(suite),
        )


def _suite(name: str, settings: DictConfig) -> Suite:
    """A suite is called by its key, unless its settings name it."""
    suite: Suite = instantiate(settings, **({} if "name" in settings else {"name": name}))
    return suite
