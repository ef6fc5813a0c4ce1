"""Typed schemas of the top level of each command's config; conf/<command>.yaml is checked against them before a run.

The schema of a `Group` is the signature of its `_target_`, or of the function that takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perank.app.settings import check_keys, check_type
from perank.errors import BadInput, check_distinct, check_least
from perank.evaluation import check_on_failure

Group = Mapping[str, Any]


@dataclass(kw_only=True)
class Paths:
    """Folders of this run's output, the shared collections (PERANK_SHARED) and downloaded data (PERANK_DATA)."""

    output: str
    shared: str
    data: str


@dataclass(kw_only=True)
class Alignment:
    """Stage 1 on demand: `overrides` and `more` are the overrides for its training run."""

    first: bool
    overrides: list[str]
    more: list[str]


@dataclass(kw_only=True)
class Train:
    """`perank.train`. `variant`, `variants` and `by_scale` are only used by the config of a study."""

    scale: str
    stage: Group
    collection: Group
    first_stage: Group
    encoder: Group
    backbone: Group
    projector: Group
    prompt: Group
    data: Group
    teacher: Group
    loss: Group | None = None
    target: Group | None = None
    optimizer: Group
    trainer: Group
    callbacks: Group
    logger: Group
    suite: Group
    suites: list[str] | None = None
    max_queries: int | None = None
    decoding: str
    window: Group
    alignment: Alignment
    paths: Paths
    seed: int
    start: str | None
    ckpt_path: str | None
    anchors: Group | None = None
    evaluate: bool
    evaluate_every: int | None
    on_failure: str = "first_stage"
    report: Group | None = None
    labels: Group
    variant: str | None = None
    variants: Group = field(default_factory=dict)
    by_scale: Group = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_on_failure(self.on_failure)
        if not 0 <= self.seed < 2**32:
            raise BadInput(f"the seed is {self.seed}", remedy="choose one from 0 to 4294967295", id="seed")


@dataclass(kw_only=True)
class Doctor(Train):
    """`perank.doctor`: a training run, and the GPU it is planned for."""

    gpu: str
    gpus: Group
    query_tokens: int
    passage_tokens: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys([self.gpu], list(map(str, self.gpus)), "gpus")
        check_least("", 1, query_tokens=self.query_tokens, passage_tokens=self.passage_tokens)


@dataclass(kw_only=True)
class Evaluate:
    """`perank.evaluate`."""

    suite: Group
    suites: list[str] | None = None
    max_queries: int | None = None
    encoder: Group
    ranker: Group = field(default_factory=dict)
    decoding: str
    window: Group
    paths: Paths
    model: str | None
    dtype: str
    device: str
    run: str | list[str] | None
    download: bool
    compare: list[str]
    encoder_alone: bool
    on_failure: str = "first_stage"
    batch_size: int
    calibrate: bool | str | None
    calibration: str | None
    report: Group | None
    ir_metadata: Group | None
    labels: Group

    def __post_init__(self) -> None:
        check_least("", 1, batch_size=self.batch_size)
        check_on_failure(self.on_failure)
        check_distinct("compare", self.compare)


@dataclass(kw_only=True)
class Rank:
    """`perank.rank`."""

    collection: Group = field(default_factory=dict)
    paths: Paths
    model: str
    dtype: str
    device: str
    run: str | None
    input: str | None
    output: str | None
    format: str | None
    ir_metadata: Group | None
    depth: int
    store: str | None
    batch_size: int
    devices: int
    nodes: int
    progress: bool
    decoding: str
    window: Group

    def __post_init__(self) -> None:
        check_least("", 1, batch_size=self.batch_size, depth=self.depth, devices=self.devices, nodes=self.nodes)
        if self.format is not None:
            check_keys([self.format], ("trec", "jsonl"), "format")


@dataclass(kw_only=True)
class Encode:
    """`perank.encode`."""

    collection: Group
    encoder: Group
    trainer: Group
    paths: Paths
    folder: str | None
    dtype: str
    batch_size: int
    shard_rows: int


@dataclass(kw_only=True)
class Prepare:
    """`perank.prepare`."""

    preparation: Group
    collection: Group
    first_stage: Group
    encoder: Group
    backbone: Group
    prompt: Group
    teacher: Group
    paths: Paths
    seed: int
    device: str
    progress: bool


@dataclass(kw_only=True)
class Efficiency:
    """`perank.efficiency`."""

    suite: Group
    encoder: Group
    prompt: Group
    paths: Paths
    study: str
    layouts: Group
    model: str
    dtype: str
    device: str
    queries: int
    text_queries: int
    text_length: int
    quality: bool
    into: str | None
    seed: int

    def __post_init__(self) -> None:
        check_keys([self.study], list(map(str, self.layouts)), "layouts")
        check_least("", 1, queries=self.queries, text_queries=self.text_queries, text_length=self.text_length)
        place = f"layouts.{self.study}"
        if not self.layouts[self.study]:
            raise BadInput("there are no layouts", remedy="name some as [candidates, window, step]", id=place)
        check_distinct(place, self.layouts[self.study])
        for layout in self.layouts[self.study]:
            check_type(layout if isinstance(layout, str) else tuple(layout), tuple[int, int, int], place)
            check_least(place, 1, candidates=layout[0], window=layout[1], step=layout[2])


SCHEMAS: dict[str, type] = {
    "train": Train,
    "doctor": Doctor,
    "evaluate": Evaluate,
    "rank": Rank,
    "encode": Encode,
    "prepare": Prepare,
    "efficiency": Efficiency,
}
