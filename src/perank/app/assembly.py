"""Build the parts of a training run from a composed config: model, data, stage and ranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from perank.app.inputs import Inputs
from perank.app.run_suites import RunSuites
from perank.app.settings import import_target
from perank.app.training_data import align_data, listwise_data, rank_data, read_data
from perank.baselines.text_listwise import TextListwise
from perank.model import TextRanker, load_projector, load_trained_state, trained_state, without_anchors
from perank.model.projector_init import ProjectorSettings, Sample, started_model
from perank.records import Vectors
from perank.saving.hub import save_pretrained, saved_folder, saved_weights
from perank.saving.saved_text_ranker import save_text_ranker
from perank.training.anchors_fit import fit
from perank.training.checkpoints import model_weights

_FITTED_ROWS = 4096  # the first of the stream: a few weights need no more


class Assembly(Inputs):
    """The parts of a run, each built on first use and kept."""

    @property
    def system(self) -> str:
        """Name of the trained model in tables."""
        return "PE-Rank" if self.anchors is None else "PE-Rank+"

    @cached_property
    def suites(self) -> RunSuites:
        return RunSuites(self)

    @cached_property
    def model(self) -> Any:
        """`PERank`: the LLM with the configured projector, or with all trained weights of the model `start`.

        `projector.path` replaces the projector of `start`. Anchors are added to the weights of a model without them,
        and left out if the config has none.
        """
        settings: ProjectorSettings = self.make("projector")
        anchors, start = self.anchors, self.config.get("start")
        if start is not None:
            settings = replace(settings, init="default", path=None, score_deviation=None)
        llm, width = self.llm.load(), self.encoder.width
        sample = cache(lambda: self._sample(settings.sample))
        model = started_model(llm, self.prompts, settings, width=width, anchors=anchors, sample=sample)
        if start is not None:
            folder = saved_folder(start)
            weights = model_weights(start) if folder is None else saved_weights(folder, self.llm)
            if model.anchors is None:
                weights = without_anchors(weights)
            else:
                own = trained_state(model.anchors)
                weights = {f"anchors.{name}": value for name, value in own.items()} | weights
            load_trained_state(model, weights)
            if self.config.projector.path is not None:
                load_projector(model.projector, self.config.projector.path)
        return model

    @cached_property
    def data(self) -> Any:
        """The stage's LightningDataModule."""
        makers = {"align": align_data, "rank": rank_data, "listwise": listwise_data, "read": read_data}
        return makers[self.config.stage.name](self)

    @cached_property
    def stage(self) -> Any:
        """The stage's LightningModule."""
        loss = {"loss": self.make("loss")} if self.config.stage.name == "rank" else {}
        make = import_target(self.config.stage.get("_target_"), "stage")
        return make(model=self.model, optimizer=self.make("optimizer"), **loss)

    def before_fit(self) -> None:
        """Fit the model's anchors, if there are any to fit, to the training rows."""
        if self.anchors is not None and self.anchors.fit:
            some = range(min(_FITTED_ROWS, self.data.rows))
            fit(self.model.anchors, self.data.collate([self.data.example(position) for position in some]))

    def after_fit(self) -> None:
        """What a stage does to its trained model before it is saved: nothing."""

    def ranker(self, suite: Any) -> Any:
        """Return a `Ranker` of the suite's candidates with the model's current weights."""
        return self.suites.reranker(self.model, self.prompts, suite)

    def baselines(self, suite: Any) -> list[Any]:
        """Evaluate the first stage, the encoder, and the anchors of the model as it is at the first call, if any."""
        return self.suites.baselines_of(None if self.anchors is None else self.model, self.prompts, suite)

    def save(self, folder: str | Path, state: Mapping[str, Any] | None = None) -> Path:
        """Write the model with its current weights, or those in `state`, for `Reranker.from_pretrained`."""
        window, step = self.suites.windows.window, self.suites.windows.step
        made_of = {"llm": self.llm, "prompts": self.prompts, "encoder": self.encoder}
        return save_pretrained(folder, self.model, **made_of, window=window, step=step, state=state)

    def _sample(self, size: int) -> Sample:
        """Return the first passages and queries with their vectors, to initialise a model from."""
        passage_ids, query_ids = (
            list(islice(ids, size)) for ids in (self.collection.passages, self.collection.queries)
        )
        return self._sample_of(passage_ids, query_ids, self.query_vectors)

    def _sample_of(self, passage_ids: Sequence[str], query_ids: Sequence[str], vectors: Vectors) -> Sample:
        """Return passages, and queries with what `vectors` has for them."""
        passages, queries = self.collection.passages, self.collection.queries
        return Sample(
            texts=[passages[id].contents for id in passage_ids],
            vectors_XE=torch.from_numpy(self.store.get(passage_ids)),
            queries=[queries[id].text for id in query_ids],
            vectors_QE=torch.from_numpy(vectors.get(query_ids)),
            slot_QE=torch.from_numpy(self.query_vectors.get(query_ids)) if self.prompts.query_slot else None,
        )


class TextAssembly(Assembly):
    """Parts for an LLM that reads texts and writes identifiers (RankMistral); rows and baselines are PE-Rank's."""

    @property
    def system(self) -> str:
        """See `Assembly.system`."""
        return "text listwise"

    @cached_property
    def model(self) -> Any:
        """`TextRanker`."""
        return TextRanker(self.llm.load())

    def ranker(self, suite: Any) -> TextListwise:
        """Return the LLM with its current weights as a ranker of the suite's texts."""
        return TextListwise(self.model.llm, self.prompts, windows=self.suites.windows, view=self.data.view)

    def save(self, folder: str | Path, state: Mapping[str, Any] | None = None) -> Path:
        """Write the trained part of the LLM, for `ranker=ranksmol`."""
        windows = self.suites.windows.window, self.suites.windows.step
        made_of = {"llm": self.llm, "prompts": self.prompts, "text": self.config.data.text}
        return save_text_ranker(folder, self.model, **made_of, windows=windows, state=state)
