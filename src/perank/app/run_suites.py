"""The suites of a run, with what evaluation needs: candidates' vectors, baselines, PE-Rank over the candidates."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, cached_property
from typing import Any

from omegaconf import DictConfig

from perank.app.inputs import Inputs
from perank.app.settings import check_keys, instantiate
from perank.baselines.encoder_ranker import EncoderRanker
from perank.baselines.fusion import Fusion, FusionRanker
from perank.errors import check_distinct
from perank.evaluation import Evaluation, Suite, evaluate_ranker, evaluate_run
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Ranker
from perank.retrieval.encoding import finished_store
from perank.retrieval.store import EmbeddingStore

FUSION = "fusion"  # the baseline's name in tables, and its entry in the config group `ranker`
_LARGE_CORPUS = 1_000_000  # passages; for larger ones, a store of the full corpus is not looked for


class RunSuites(list[Suite]):
    """The suites of the config group `suite`, or those of them that `suites` names.

    Raises `BadInput` for other names, and for one that occurs twice.
    """

    anchors_alone = "anchors alone"  # name of a model without its LLM in tables

    def __init__(self, inputs: Inputs) -> None:
        present = {str(name): settings for name, settings in inputs.config.suite.items() if settings}
        chosen = list(present) if inputs.config.get("suites") is None else list(inputs.config.suites)
        check_distinct("suites", chosen)
        check_keys(chosen, list(present), "suites", "suites=null for all that `suite` has")
        super().__init__(_suite(name, present[name], inputs.config) for name in chosen)
        check_distinct("suite", (suite.name for suite in self))
        self.inputs = inputs
        # Cached per object: a cache on the class would keep every job's model during a sweep.
        self.candidate_store = cache(self._candidate_store)
        self.encoder_ranker = cache(self._encoder_ranker)
        self.baselines = cache(self._baselines)
        self._alone: dict[str, Evaluation] = {}

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

    def _encoder_ranker(self, suite: Suite) -> EncoderRanker:
        """Return the encoder alone over a suite's candidates; its `vectors` are shared with fusions."""
        return EncoderRanker(self.inputs.encoder, self.candidate_store(suite))

    def _baselines(self, suite: Suite, encoder: bool = True) -> list[Evaluation]:
        """Evaluate the order of the first stage and, optionally, of the encoder and of the fusion of both."""
        first = evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)
        if not encoder:
            return [first]
        alone = self.encoder_ranker(suite)
        rankers: dict[str, Ranker] = {"encoder": alone, FUSION: FusionRanker(self.fusion, alone.vectors)}
        return [
            first,
            *(evaluate_ranker(ranker, suite, system=name, progress=False) for name, ranker in rankers.items()),
        ]

    @cached_property
    def fusion(self) -> Fusion:
        """The entry `fusion` of the config group `ranker`, or the default one."""
        settings = (self.inputs.config.get("ranker") or {}).get(FUSION)
        fusion: Fusion = instantiate(settings) if settings else Fusion()
        return fusion

    def baselines_of(self, model: Any, prompts: Any, suite: Suite) -> list[Evaluation]:
        """Evaluate `baselines`, and the anchors of `model` without its LLM as it is at the first call (None: none)."""
        found = self.baselines(suite)
        if model is None:
            return found
        if suite.name not in self._alone:
            ranker = self.reranker(model, prompts, suite, decoder="anchors")
            self._alone[suite.name] = evaluate_ranker(ranker, suite, system=self.anchors_alone, progress=False)
        return [*found, self._alone[suite.name]]

    @cached_property
    def windows(self) -> Windows:
        """The sliding windows of the config group `window`."""
        windows: Windows = self.inputs.make("window")
        return windows

    def reranker(self, model: Any, prompts: Any, suite: Suite, **options: Any) -> Reranker:
        """Return PE-Rank over a suite's candidates, with the configured windows, decoder, and other `options`."""
        return Reranker(
            model,
            prompts,
            self.inputs.encoder,
            windows=self.windows,
            store=self.candidate_store(suite),
            **{"decoder": self.inputs.config.decoding} | options,
        )


def _suite(name: str, settings: DictConfig, config: DictConfig) -> Suite:
    """Instantiate a suite, named after its key unless its settings have a name.

    `on_failure` and `max_queries` are the config's where its settings have none.
    """
    suite: Suite = instantiate(settings, **({} if "name" in settings else {"name": name}))
    keys = [key for key in ("on_failure", "max_queries") if settings.get(key) is None]
    shared = {key: config[key] for key in keys if config.get(key) is not None}
    return replace(suite, **shared) if shared else suite
