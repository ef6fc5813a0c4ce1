"""From a composed config to the objects of a run. Every `instantiate` of perank stands in this file.

Parts are made when first asked for and kept, so an entry point pays for what it uses.
"""

from __future__ import annotations

from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker, evaluate_run
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.model.backbone import PERank
from perank.model.hub import save_pretrained
from perank.model.prompts import PromptBuilder
from perank.preparation.training_rows import training_rows
from perank.records import Collection
from perank.rerank.reranker import Reranker
from perank.rerank.window import Windows
from perank.retrieval.encoder_ranker import EncoderRanker
from perank.retrieval.encoding import cached_store, finished_store
from perank.retrieval.query_vectors import QueryVectors
from perank.retrieval.store import EmbeddingStore

if TYPE_CHECKING:
    from perank.model.start import Sample

_WHOLE = 1_000_000  # passages of a corpus that is looked at whole before its candidates are


class Assembly:
    """The parts of one run."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config

    def make(self, group: str, **more: Any) -> Any:
        """Instantiate a config group. A constructor's `BadInput` comes through as itself."""
        return made(self.config[group], **more)

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
        return cached_store(self.collection.name, self.collection.passages, self.encoder)

    @cached_property
    def query_vectors(self) -> QueryVectors:
        return QueryVectors(self.collection.queries, self.encoder)

    @cached_property
    def llm(self) -> Any:
        """The LLM's settings; nothing is loaded."""
        return self.make("backbone")

    @cached_property
    def prompts(self) -> PromptBuilder:
        return PromptBuilder(self.llm.tokenizer(), **plain(self.config.prompt))

    @cached_property
    def model(self) -> PERank:
        """The LLM with a projector started as the config says, or as `projector.path` left it."""
        from perank.model.start import started_model

        settings = plain(self.config.projector)
        size = settings.pop("sample")
        return started_model(
            self.llm.load(),
            self.prompts,
            width=self.encoder.width,
            residual=self.config.residual,
            sample=cache(lambda: self._sample(size)),
            **settings,
        )

    @cached_property
    def data(self) -> Any:
        """The stage's LightningDataModule."""
        return {"align": self._align_data, "rank": self._rank_data}[self.config.stage.name]()

    @cached_property
    def stage(self) -> Any:
        """The stage's LightningModule."""
        parts: dict[str, Any] = {"model": self.model, "optimizer": self.make("optimizer")}
        if self.config.stage.name == "rank":
            parts["loss"] = self.make("loss")
        return get_class(self.config.stage._target_)(**parts)

    @cached_property
    def trainer(self) -> Any:
        loggers = [made(logger) for logger in self.config.logger.values() if logger]
        callbacks = [made(callback) for callback in self.config.callbacks.values() if callback]
        if self.config.evaluate:
            callbacks.append(self.evaluation)
        return self.make("trainer", logger=loggers, callbacks=callbacks)

    @cached_property
    def suites(self) -> list[Suite]:
        return [made(suite) for suite in self.config.suite.values() if suite]

    @cached_property
    def evaluation(self) -> Any:
        """The callback that measures the model on the suites."""
        from perank.evaluation.callback import RankingEvaluation

        return RankingEvaluation(
            self.suites,
            lambda suite: self.reranker(self.model, self.prompts, suite),
            self.baselines,
            self.config.paths.output,
            every_n_steps=self.config.evaluate_every,
        )

    @cache  # noqa: B019 - an Assembly lives as long as its run
    def candidate_store(self, suite: Suite) -> EmbeddingStore:
        """Vectors of a suite's candidates, encoded once; of its whole corpus where those are there already."""
        name, passages = suite.collection.name, suite.collection.passages
        if len(passages) <= _WHOLE and (whole := finished_store(name, passages, self.encoder)) is not None:
            return whole
        wanted = {passage.id: passage for found in suite.candidates() for passage in found.passages}
        if len(passages) <= 2 * len(wanted):
            return cached_store(name, passages, self.encoder)
        return cached_store(f"{name}-candidates", wanted, self.encoder)

    def reranker(self, model: PERank, prompts: PromptBuilder, suite: Suite) -> Reranker:
        """PE-Rank over a suite's candidates, as `window` and `decoding` say."""
        window = self.config.window
        return Reranker(
            model,
            prompts,
            self.encoder,
            windows=Windows(window.window, window.step),
            cutoff=window.cutoff,
            decoder=self.config.decoding.name,
            store=self.candidate_store(suite),
        )

    @cache  # noqa: B019
    def baselines(self, suite: Suite) -> tuple[Evaluation, Evaluation]:
        """The first stage's own order, and the encoder's."""
        first = evaluate_run(suite.first_stage_run, suite, system=suite.first_stage_name)
        ranker = EncoderRanker(self.encoder, self.candidate_store(suite))
        return first, evaluate_ranker(ranker, suite, system="encoder", progress=False)

    def save(self, folder: str | Path) -> Path:
        """Write the model as it stands, for `Reranker.from_pretrained`."""
        window = self.config.window
        return save_pretrained(
            folder,
            self.model,
            llm=self.llm,
            prompts=self.prompts,
            encoder=self.encoder,
            window=window.window,
            step=window.step,
        )

    def close(self) -> None:
        """Finish the W&B run, if there is one: a sweep would write all its jobs into the first."""
        if self.config.logger.get("wandb"):
            import wandb

            wandb.finish()

    def _sample(self, size: int) -> Sample:
        """The first passages and queries with their vectors, to start a model from."""
        import torch

        from perank.model.start import Sample

        ids = list(islice(self.collection.passages, size))
        queries = list(islice(self.collection.queries, size))
        return Sample(
            texts=[self.collection.passages[id].contents for id in ids],
            vectors_XE=torch.from_numpy(self.store.get(ids)),
            queries=[self.collection.queries[id].text for id in queries],
            vectors_QE=torch.from_numpy(self.query_vectors.get(queries)),
        )

    def _align_data(self) -> Any:
        from perank.data.align import AlignData

        settings = plain(self.config.data)
        passages = list(self.collection.passages.values())[: settings.pop("rows")]
        return AlignData(passages, self.store, self.prompts, seed=self.config.seed, **settings)

    def _rank_data(self) -> Any:
        from perank.data.rank import RankData

        settings = plain(self.config.data)
        rows = training_rows(
            self.collection,
            self.make("first_stage"),
            self.store,
            self.query_vectors,
            teacher_run=self.config.teacher.get("path"),
            seed=self.config.seed,
            **{key: settings.pop(key) for key in ("rows", "rows_path", "candidates", "pools", "pool_depth")},
        )
        wants_texts = self.config.loss.content > 0 or self.config.loss.alpha > 0
        wants_query = self.config.prompt.query_slot or self.config.residual
        return RankData(
            rows,
            self.store,
            self.prompts,
            text_of=self.collection.passages if wants_texts else None,
            query_vectors=self.query_vectors if wants_query else None,
            seed=self.config.seed,
            **settings,
        )


def made(settings: Any, **more: Any) -> Any:
    """`instantiate` to plain containers; a constructor's `BadInput` comes through as itself."""
    try:
        return instantiate(settings, **more, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, BadInput):
            raise error.__cause__ from error
        raise


def plain(settings: Any) -> dict[str, Any]:
    """A config group as a dict of plain values."""
    content = OmegaConf.to_container(settings, resolve=True)
    if not isinstance(content, dict):
        raise TypeError(f"expected a config group, found {content!r}")
    return {str(key): value for key, value in content.items()}
