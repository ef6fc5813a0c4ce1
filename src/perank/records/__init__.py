"""Data types that perank's packages exchange, and the protocols that they implement; doesn't import torch.

*Candidates* are the passages that a first stage found for a query, best first. A *ranking* is a permutation of
candidate positions, best first. A *bill* is the cost of a ranking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from perank.errors import BadInput
from perank.files import same_folder
from perank.records.rankings import Bill as Bill
from perank.records.rankings import Result, described, table
from perank.records.rankings import rank_scores as rank_scores

if TYPE_CHECKING:
    import numpy as np

Qrels = dict[str, dict[str, int]]
"""query id -> passage id -> relevance grade."""

Run = dict[str, dict[str, float]]
"""query id -> passage id -> score. The order is by `rank_order`, never by dict order or a file's rank column."""

Identity = Mapping[str, str | int | bool]
"""Everything that an encoder's vectors depend on, as JSON values; an EmbeddingStore records it and rejects others.

Its `dtype`, the type the encoder computed in, is recorded too, but does not tell vectors apart: see `differences`.
"""


def differences(there: Identity, here: Identity) -> list[str]:
    """Return the fields in which two encoders differ, other than the type they compute in.

    A corpus encoded in bf16 on a GPU is the corpus that a CPU would encode in fp32, up to rounding. Two spellings of
    one folder are one name.
    """
    fields = [name for name in {**there, **here} if name != "dtype" and there.get(name) != here.get(name)]
    if "name" in fields and same_folder(str(there.get("name")), str(here.get("name"))):
        fields.remove("name")
    return fields


@dataclass(frozen=True, slots=True)
class Query:
    """A search query; `text` is never empty."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a corpus; `title` may be empty."""

    id: str
    text: str
    title: str = ""

    @property
    def contents(self) -> str:
        """The text that encoders and BM25 read: title, space, text."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Candidates:
    """The N passages that a first stage found for a query, best first, and its scores ([N], or empty if unknown)."""

    query: Query
    passages: tuple[Passage, ...]
    scores: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.passages)

    def top(self, depth: int) -> Candidates:
        """The first `depth` candidates."""
        return Candidates(self.query, self.passages[:depth], self.scores[:depth])


@dataclass(frozen=True, slots=True, repr=False)
class Ranking:
    """`order` is a permutation of range(N): positions in `candidates`, best first. `str` gives a short table.

    `len`, iteration and indexing give a `Result` (rank, score, document) per candidate, best first. `given` are the
    caller's own documents [N], in the candidates' order, or empty if these were `Passage`s. Best first, [N] or empty:
    `raw`, the model's scores (logits, never increasing), and `probabilities` of relevance by a calibration.
    """

    candidates: Candidates
    order: tuple[int, ...]
    bill: Bill = field(default_factory=Bill)
    given: tuple[Any, ...] = field(default=(), compare=False)
    raw: tuple[float, ...] = field(default=(), compare=False)
    probabilities: tuple[float, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.candidates))):
            raise ValueError(f"not a permutation of {len(self.candidates)} positions: {self.order}")

    @property
    def passage_ids(self) -> list[str]:
        """Passage ids, best first."""
        return [self.candidates.passages[i].id for i in self.order]

    @property
    def passages(self) -> list[Passage]:
        """Passages, best first."""
        return [self.candidates.passages[i] for i in self.order]

    @property
    def documents(self) -> list[Any]:
        """The caller's own documents (texts, dicts, `Passage`s), best first."""
        return [(self.given or self.candidates.passages)[i] for i in self.order]

    @property
    def calibrated(self) -> bool:
        """Whether `scores` are probabilities of relevance."""
        return bool(self.probabilities)

    @property
    def scores(self) -> tuple[float, ...]:
        """A number in [0, 1] per candidate, best first, never increasing: probabilities, or uncalibrated 1 / rank."""
        return self.probabilities or tuple(1 / (rank + 1) for rank in range(len(self.order)))

    def cut(self, threshold: float) -> Ranking:
        """Return only the candidates with a score of at least `threshold`. Raises `BadInput` if uncalibrated."""
        if len(self.order) and not self.calibrated:
            remedy = "fit one: python -m perank.evaluate suite=<dev> model=<folder> calibrate=true; or use top_k"
            raise BadInput("a threshold needs a calibrated model", remedy=remedy, id="threshold")
        k = sum(score >= threshold for score in self.scores)
        kept = sorted(self.order[:k])
        scores = tuple(self.candidates.scores[i] for i in kept) if self.candidates.scores else ()
        return replace(
            self,
            candidates=Candidates(self.candidates.query, tuple(self.candidates.passages[i] for i in kept), scores),
            order=tuple(kept.index(i) for i in self.order[:k]),
            given=tuple(self.given[i] for i in kept) if self.given else (),
            raw=self.raw[:k],
            probabilities=self.probabilities[:k],
        )

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Result]:
        return map(Result, range(1, len(self) + 1), self.scores, self.documents)

    def __getitem__(self, place: int | slice) -> Any:
        """The `Result` at a position from 0, best first, or a list of them."""
        return list(self)[place]

    def __repr__(self) -> str:
        return described(self.candidates.query.text, self.passage_ids)

    def __str__(self) -> str:
        return table([(passage.id, passage.contents) for passage in self.passages])


@runtime_checkable
class Ranker(Protocol):
    """Anything that orders candidates: PE-Rank, a cross-encoder, a first stage, a published run."""

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, in its order, independent of the rest of the batch."""


@runtime_checkable
class ChecksCandidates(Protocol):
    """A ranker that knows beforehand whether it can rank a query."""

    def check(self, candidates: Candidates) -> None:
        """Raise `BadInput` if these candidates can't be ranked, e.g. because the prompt is too long."""


class Vectors(Protocol):
    """Vectors by id, such as an EmbeddingStore."""

    def get(self, ids: Sequence[str]) -> np.ndarray:
        """[len(ids), E] in fp32. Raises `BadInput` for an unknown id."""


class TextEncoder(Protocol):
    """Encodes texts as unit vectors [B, E], fp32 on the CPU, such as `perank.model.encoders.encoder.Encoder`."""

    @property
    def width(self) -> int:
        """E, the length of a vector."""

    @property
    def identity(self) -> Identity:
        """Name, pooling, prefixes, length, revision and all other settings that affect the vectors."""

    def encode_queries(self, texts: Sequence[str]) -> Any:
        """Tensor [B, E]."""

    def encode_passages(self, texts: Sequence[str]) -> Any:
        """Tensor [B, E]."""


class Collection(Protocol):
    """A test collection: queries, passages, judgements, and its own first-stage runs."""

    name: str

    @property
    def queries(self) -> Mapping[str, Query]:
        """Query id -> query, in the source's order."""

    @property
    def passages(self) -> Mapping[str, Passage]:
        """Passage id -> passage; may be lazy (iteration streams, indexing looks up one passage, `get_many` several)."""

    @property
    def qrels(self) -> Qrels:
        """Relevance grades."""

    @property
    def runs(self) -> Mapping[str, Run]:
        """Name -> first-stage run, read on access."""


class FirstStage(Protocol):
    """A retriever over all passages of a collection: BM25 or an encoder."""

    def search(self, collection: Collection, queries: Sequence[Query] | None = None, depth: int | None = None) -> Run:
        """Return up to `depth` passages per query, for `queries` or by default all of the collection's."""


def rank_order(scores: Mapping[str, float]) -> list[str]:
    """Sort passage ids by score descending, ties by passage id descending, as trec_eval does."""
    return sorted(sorted(scores, reverse=True), key=scores.__getitem__, reverse=True)
