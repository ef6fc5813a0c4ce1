"""The parts of the reading stage: targets, learned once and cached, and the reader's start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perank.app.assembly import Assembly
from perank.baselines.splade import SpladeRanker
from perank.errors import BadInput
from perank.files import atomic_write, cache_dir, file_lock
from perank.model.even_start import even_start
from perank.model.projector_init import Sample, hidden_of
from perank.preparation.fingerprint import fingerprint, questions_digest, store_digest
from perank.preparation.judged_map import JudgedLists, JudgedMapSettings, judged_map
from perank.preparation.query_tower import TargetVectors, TowerData, TowerSettings, tower_vectors
from perank.records import rank_order
from perank.retrieval.encoding import QueryVectors
from perank.training.read import even_scores

log = logging.getLogger(__name__)

_SAMPLE = 4096  # texts and passages for closed-form fits,
_SCORED = 1024  # and passages for scores


@dataclass(frozen=True, kw_only=True)
class ReadTarget:
    """The config group `target`: the `tower`, the sparse ranker that teaches it, and by how many of the passages.

    `cosine` times the query's own vector is added to the tower's: 0 for anchored scores, which have the encoder's
    similarity already, 1 for the paper's form, in which the LLM has to say all of it. `judged`, if given, adds a map of
    the query's own vector, for prompts with a slot for it.
    """

    tower: TowerSettings
    teacher: SpladeRanker
    passages: int = 24_000
    cosine: float = 0.0
    judged: JudgedMapSettings | None = None


class ReadAssembly(Assembly):
    """Parts of a run in which an LLM learns to read queries; targets are those of the config group `target`."""

    @cached_property
    def query_vectors(self) -> Any:
        """The queries' own vectors, which are the larger part of a run's preparation, cached like targets."""
        queries = self.collection.queries
        encoded = QueryVectors(queries, self.encoder)
        known = ["queries", questions_digest(self.collection), dict(self.encoder.identity)]
        return TargetVectors(list(queries), self._cached(known, lambda: encoded.get(list(queries))))

    @cached_property
    def targets(self) -> TargetVectors:
        """Every query's target vector, cached under a fingerprint of all that it depends on."""
        target: ReadTarget = self.make("target")
        ids = list(self.collection.queries)
        known: list[Any] = [questions_digest(self.collection), store_digest(self.store), target.teacher.identity]
        known += [asdict(target.tower), target.passages]

        def learned() -> np.ndarray:
            data, width = self._tower_data(target), target.teacher.encoder.width
            return tower_vectors(data, target.tower, width)

        def with_own() -> np.ndarray:
            own_QE = np.asarray(self.query_vectors.get(ids))
            vectors_QE: np.ndarray = self._cached(known, learned) + target.cosine * own_QE
            if target.judged is not None:
                lists = self._judged_lists(target.judged, TargetVectors(ids, vectors_QE))
                vectors_QE += judged_map(lists, target.judged)(torch.from_numpy(own_QE)).numpy()
            return vectors_QE

        more = [target.cosine] if target.judged is None else [target.cosine, target.judged.identity]
        vectors_QE = self._cached([*known, *more], with_own) if any(more) else self._cached(known, learned)
        return TargetVectors(ids, vectors_QE)

    def _judged_lists(self, settings: JudgedMapSettings, known: TargetVectors) -> JudgedLists:
        """The judged questions with a full list of candidates and a relevant one among them."""
        questions = settings.questions
        run = self.first_stage.search(questions, depth=settings.depth)
        ranked = {id: rank_order(scores) for id, scores in run.items() if len(scores) == settings.depth}
        relevant = {
            id: [questions.qrels.get(id, {}).get(passage, 0) > 0 for passage in ids] for id, ids in ranked.items()
        }
        kept = [id for id, found in relevant.items() if any(found)]
        if not kept:
            remedy = "use questions with judgements, or target.judged=null"
            raise BadInput("no list of candidates has a relevant one", remedy=remedy, id=questions.name)
        log.info("%d of %d questions have a relevant passage among %d", len(kept), len(run), settings.depth)
        return JudgedLists(
            queries_RE=torch.from_numpy(self.query_vectors.get(kept)),
            known_RE=torch.from_numpy(known.get(kept)),
            vectors_RNE=torch.stack([torch.from_numpy(self.store.get(ranked[id])) for id in kept]),
            relevant_RN=torch.tensor([relevant[id] for id in kept]),
            weight_R=torch.tensor([settings.weight(id) for id in kept]),
        )

    def _cached(self, known: list[Any], make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the vectors that `make` returns, from a file named after what is `known` of them."""
        name = f"{self.collection.name}-{fingerprint(*known)}.npy"
        path = cache_dir() / "targets" / name
        with file_lock(path.with_name(f".{name}.lock")):
            if not path.is_file():
                vectors_QE = make()
                with atomic_write(path, "wb") as file:
                    np.save(file, vectors_QE)
        found: np.ndarray = np.load(path, mmap_mode="r")
        return found

    @cached_property
    def sample(self) -> Sample:
        """Texts and passages for the closed-form fits at the start and at the end."""
        return self._sample(_SAMPLE)

    def before_fit(self) -> None:
        """Begin the last layer as an even average, then the final norm and `score_scale`; not for `start`."""
        if self.config.get("start") is not None:
            return
        self.model.eval()
        sample, passages_XE = self.sample, self.sample.vectors_XE
        with torch.no_grad():
            projected_XD = self.model.project(passages_XE)
        missing_QE = sample.vectors_QE
        if self.prompts.query_slot == "last":  # h_1 begins as the query's own vector
            missing_QE = missing_QE - self.make("target").cosine * sample.slot_QE
        share = even_start(self.model.llm, lambda: self._read()[1], missing_QE, passages_XE, projected_XD)
        explained = even_scores(self.model, self._read()[0], sample.vectors_QE, passages_XE[:_SCORED])
        log.info("at the start the even average explains %.3f of what is to be read, the model %.3f", share, explained)

    def after_fit(self) -> None:
        """The projector, frozen in this stage, is part of the model that is saved."""
        self.model.projector.requires_grad_(True)

    def _sample(self, size: int) -> Sample:
        """Return passages and queries spread over the collection, with the targets as the queries' vectors."""
        passage_ids, query_ids = (
            _spread(list(ids), size) for ids in (self.collection.passages, self.collection.queries)
        )
        return self._sample_of(passage_ids, query_ids, self.targets)

    def _tower_data(self, target: ReadTarget) -> TowerData:
        queries, ids = self.collection.queries, _spread(list(self.collection.passages), target.passages)
        places = {id: place for place, id in enumerate(ids)}
        qrels = self.collection.qrels
        log.info("the sparse encoder reads %d texts and %d passages", len(queries), len(ids))
        return TowerData(
            queries_QE=torch.from_numpy(self.query_vectors.get(list(queries))),
            words=target.teacher.encoder.encode([query.text for query in queries.values()]),
            passages_XE=torch.from_numpy(self.store.get(ids)),
            contents=target.teacher.encoder.encode([self.collection.passages[id].contents for id in ids]),
            relevant=[[places[id] for id in qrels.get(query, {}) if id in places] for query in queries],
        )

    def _read(self) -> tuple[Tensor, Tensor]:
        """Run the LLM over the sample's queries: h_1 [Q, D] in fp32, and the mask of their tokens [Q, L]."""
        queries, shown = self.sample.queries, self.config.data.passages
        places_QN = torch.arange(len(queries) * shown).view(-1, shown) % len(self.sample.vectors_XE)
        hidden_QD = hidden_of(self.model, self.prompts, self.sample, places_QN, batch=64)
        length_Q = torch.tensor([len(self.prompts.rank(text, shown)) for text in queries])
        return hidden_QD, torch.arange(int(length_Q.max())) < length_Q[:, None]


def _spread(ids: list[str], size: int) -> list[str]:
    """Return at most `size` ids at equal distances."""
    return ids if len(ids) <= size else [ids[round(i * (len(ids) - 1) / (size - 1))] for i in range(size)]
