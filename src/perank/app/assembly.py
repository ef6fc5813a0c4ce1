"""From a composed config to the objects of a run.

Parts are made when first asked for and kept, so an entry point pays for what it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from perank.app.settings import as_dict, check_arguments, check_type, import_target, instantiate
from perank.app.wandb_tables import finish, wandb_mode
from perank.baselines.encoder_ranker import EncoderRanker
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.files import file_lock
from perank.model.lora import load_trained_state
from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder
from perank.paths import cache_dir
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Collection, Passage, Ranker
from perank.retrieval.encoding import QueryVectors, cached_store, finished_store
from perank.retrieval.store import EmbeddingStore
from perank.saving.hub import save_pretrained

if TYPE_CHECKING:
    from perank.model.projector_init import Sample

_LARGEST_CORPUS = 1_000_000  # passages of a corpus that is looked at whole before its candidates are


class Assembly:
    """The parts of one run."""

    system = "PE-Rank"  # what tables call the model under training

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        # Each object's own: a cache of the class would keep every job's model for the rest of a sweep.
        self.candidate_store = cache(self._candidate_store)
        self.baselines = cache(self._baselines)

    def make(self, group: str, **more: Any) -> Any:
        """Instantiate a config group."""
        return instantiate(self.config[group], **more)

    def settings(self, group: str, call: Callable[..., Any], *given: str) -> dict[str, Any]:
        """A config group as arguments that `call` takes beside those `given`."""
        found = as_dict(self.config[group])
        check_arguments(call, found, group, given)
        return found

    @cached_property
    def encoder(self) -> Any:
        return self.make("encoder")

    @cached_property
    def collection(self) -> Collection:
        collection: Collection = self.make("collection")
        return collection

    @cached_property
    def store(self) -> EmbeddingStore:
        """The training collection's passage vectors, encoded once."""
        return self._encoded(self.collection.name, self.collection.passages)

    @cached_property
    def query_vectors(self) -> QueryVectors:
        return QueryVectors(self.collection.queries, self.encoder)

    @cached_property
    def llm(self) -> Any:
        """The LLM's settings; nothing is loaded."""
        return self.make("backbone")

    @cached_property
    def prompts(self) -> PromptBuilder:
        return PromptBuilder(self.llm.tokenizer(), **self.settings("prompt", PromptBuilder, "tokenizer"))

    @cached_property
    def model(self) -> PERank:
        """The LLM with a projector started as the config says, as `projector.path` left it, or all as `start` says."""
        from perank.model.projector_init import ProjectorSettings, started_model
        from perank.training.checkpoints import model_weights

        check_type(self.config.residual, float, "residual")
        settings = ProjectorSettings(**self.settings("projector", ProjectorSettings))
        check_type(start := self.config.get("start"), str | None, "start")
        if start is not None:
            settings = replace(settings, init="default", path=None, score_deviation=None)
        model = started_model(
            self.llm.load(),
            self.prompts,
            settings,
            width=self.encoder.width,
            residual=self.config.residual,
            sample=cache(lambda: self._sample(settings.sample)),
        )
        if start is not None:
            load_trained_state(model, model_weights(start))
        return model

    @cached_property
    def pretrained(self) -> Any:
        """The saved PE-Rank model that `model` names (`box`: the one inside the package), or None."""
        from perank.saving.hub import from_pretrained
        from perank.saving.saved_text_ranker import is_text_ranker

        name = self.config.model
        if name is None or is_text_ranker(name):
            return None
        return from_pretrained(None if name == "box" else name, dtype=self.config.dtype)

    @cached_property
    def data(self) -> Any:
        """The stage's LightningDataModule."""
        from perank.app.training_data import data_of

        return data_of(self)

    @cached_property
    def stage(self) -> Any:
        """The stage's LightningModule."""
        assembly: dict[str, Any] = {"model": self.model, "optimizer": self.make("optimizer")}
        if self.config.stage.name == "rank":
            assembly["loss"] = self.make("loss")
        return import_target(self.config.stage._target_, "stage")(**assembly)

    @cached_property
    def trainer(self) -> Any:
        named = {name: logger for name, logger in self.config.logger.items() if logger}
        loggers = [instantiate(named[name], **({"mode": wandb_mode()} if name == "wandb" else {})) for name in named]
        callbacks = [instantiate(callback) for callback in self.config.callbacks.values() if callback]
        if self.config.evaluate:
            callbacks.append(self.evaluation)
        return self.make("trainer", logger=loggers, callbacks=callbacks)

    @cached_property
    def suites(self) -> list[Suite]:
        return [instantiate(suite) for suite in self.config.suite.values() if suite]

    @cached_property
    def evaluation(self) -> Any:
        """The callback that measures the model on the suites."""
        from perank.evaluation.callback import RankingEvaluation

        return RankingEvaluation(
            self.suites,
            self.ranker,
            self.baselines,
            self.config.paths.output,
            system=self.system,
            every_n_steps=self.config.evaluate_every,
        )

    def _candidate_store(self, suite: Suite) -> EmbeddingStore:
        """Vectors of a suite's candidates, encoded once; of its whole corpus where those are there already."""
        name, passages = suite.collection.name, suite.collection.passages
        if len(passages) <= _LARGEST_CORPUS and (whole := finished_store(name, passages, self.encoder)) is not None:
            return whole
        wanted = {passage.id: passage for found in suite.candidates() for passage in found.passages}
        if len(passages) <= 2 * len(wanted):
            return self._encoded(name, passages)
        return self._encoded(f"{name}-candidates", wanted)

    @cached_property
    def windows(self) -> Windows:
        return Windows(**self.settings("window", Windows))

    def reranker(self, model: PERank, prompts: PromptBuilder, suite: Suite) -> Reranker:
        """PE-Rank over a suite's candidates, as `window` and `decoding` say."""
        check_type(self.config.decoding.name, str, "decoding.name")
        return Reranker(
            model,
            prompts,
            self.encoder,
            windows=self.windows,
            decoder=self.config.decoding.name,
            store=self.candidate_store(suite),
        )

    def ranker(self, suite: Suite) -> Ranker:
        """The model under training as it stands."""
        return self.reranker(self.model, self.prompts, suite)

    def _baselines(self, suite: Suite) -> tuple[Evaluation, Evaluation]:
        """The first stage's own order, and the encoder's."""
        first = evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)
        ranker = EncoderRanker(self.encoder, self.candidate_store(suite))
        return first, evaluate_ranker(ranker, suite, system="encoder", progress=False)

    def save(self, folder: str | Path, state: Mapping[str, Any] | None = None) -> Path:
        """Write the model as it stands, or with the weights of `state`, for `Reranker.from_pretrained`."""
        return save_pretrained(
            folder,
            self.model,
            llm=self.llm,
            prompts=self.prompts,
            encoder=self.encoder,
            window=self.windows.window,
            step=self.windows.step,
            state=state,
        )

    def close(self, *, failed: bool = False) -> None:
        """Finish the W&B run, if there is one: a sweep would write all its jobs into the first."""
        if self.config.logger.get("wandb"):
            finish(failed)

    def _encoded(self, name: str, passages: Mapping[str, Passage]) -> EmbeddingStore:
        with file_lock(cache_dir() / "embeddings" / f".{name}.lock"):  # other devices of the run want the same store
            return cached_store(name, passages, self.encoder)

    def _sample(self, size: int) -> Sample:
        """The first passages and queries with their vectors, to start a model from."""
        import torch

        from perank.model.projector_init import Sample

        ids = list(islice(self.collection.passages, size))
        queries = list(islice(self.collection.queries, size))
        return Sample(
            texts=[self.collection.passages[id].contents for id in ids],
            vectors_XE=torch.from_numpy(self.store.get(ids)),
            queries=[self.collection.queries[id].text for id in queries],
            vectors_QE=torch.from_numpy(self.query_vectors.get(queries)),
        )
