"""What `perank.rank` is configured to do: its queries, its reranker, and where rankings go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from perank.app.commands.processes import launched
from perank.app.commands.shared_reranker import SharedReranker
from perank.app.saved_model import SavedModel
from perank.app.settings import as_dict, check_arguments
from perank.baselines.model_loading import device_of
from perank.errors import BadInput
from perank.evaluation.ir_metadata import described, joined
from perank.files import lines, sha256
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Candidates, Ranker, Ranking
from perank.retrieval.store import EmbeddingStore
from perank.sources import read_run
from perank.sources.requests import json_requests, run_requests

_RESULT = ("model", "dtype", "depth", "store", "decoding")  # settings that rankings depend on


class Reranking:
    """A `perank.rank` run; the model is loaded when the first queries are ranked."""

    def __init__(self, config: DictConfig) -> None:
        if (config.run is None) == (config.input is None):
            raise BadInput("expected a run or an input", remedy="give run=<TREC run> or input=<JSONL file>", id="run")
        if config.run is not None and not config.get("collection"):
            remedy = "name the collection with its queries and passages"
            raise BadInput("a run holds ids alone", remedy=remedy, id="collection")
        self.config, self.device = config, device_of(config.device)
        self.batch_size: int = config.batch_size
        self.ranker: Ranker | None = None  # in place of `reranker`
        if config.ir_metadata is not None and (self.output is None or self.format != "trec"):
            remedy = "write a TREC run to a file, or leave ir_metadata=null"
            raise BadInput("only a TREC run in a file has a header", remedy=remedy, id="ir_metadata")

    def share(self) -> SharedReranker:
        """Start the configured processes, and rank with all of them. Raises `BadInput` for a device with a number."""
        kind, _, number = self.device.partition(":")
        if number:
            remedy = f"use device={kind}, or devices=1"
            raise BadInput(f"several devices, but {self.device} is one", remedy=remedy, id="device")
        fabric = launched(kind, self.config.devices, self.config.nodes, "devices")
        self.device = str(fabric.device)
        self.ranker = shared = SharedReranker(lambda: self.reranker, fabric, self.batch_size)
        self.batch_size = shared.together
        return shared

    @property
    def format(self) -> str:
        """`trec` or `jsonl`."""
        named = self.config.output or ""
        as_json = named.endswith(".jsonl") or (named in ("", "-") and self.config.input is not None)
        return str(self.config.format or ("jsonl" if as_json else "trec"))

    @property
    def output(self) -> Path | None:
        """The output's path; None for standard output."""
        named = self.config.output or ("-" if self.config.input == "-" else None)
        if named is None:
            return Path(self.config.paths.output) / f"ranked.{self.format}"
        return None if named == "-" else Path(named)

    @property
    def known(self) -> dict[str, Any]:
        """All that the rankings depend on, as JSON values; of standard input nothing is known."""
        config = self.config
        source = next((path for path in (config.run, config.input) if path and path != "-"), None)
        if source is not None and not Path(source).is_file():
            raise BadInput("no such file", remedy="check the path", path=source)
        collection = as_dict(config.collection) if config.get("collection") else None
        more = {"window": as_dict(config.window), "collection": collection, "source": source and sha256(source)}
        return {**{key: config[key] for key in _RESULT}, **more}

    @property
    def header(self) -> dict[str, Any] | None:
        """Metadata for the header of a TREC run, if wanted."""
        if self.config.ir_metadata is None:
            return None
        config = self.config
        first, collection = str(config.run or config.input), config.get("collection") or {}
        stages = [{"name": first, "depth": config.depth}, {"name": "perank", "model": config.model, "reranks": first}]
        about = {"method": {"retrieval": stages}, "data": {"test collection": {"name": collection.get("name", first)}}}
        return described("perank", joined(about, as_dict(config.ir_metadata)), self.device)

    def rankings(self, done: frozenset[str]) -> Iterator[list[Ranking]]:
        """Rank the queries whose ids are not in `done`, and yield a batch of rankings at a time."""
        from tqdm import tqdm

        total = None if self.config.run is None else len(self._run)
        with tqdm(total=total, initial=len(done), unit="query", disable=not self.config.progress) as bar:
            waiting = (candidates for candidates in self.requests() if candidates.query.id not in done)
            while batch := list(islice(waiting, self.batch_size)):
                yield (self.ranker or self.reranker).rank_batch(batch)
                bar.update(len(batch))

    def requests(self) -> Iterator[Candidates]:
        """The queries with their candidates, read as they are needed."""
        texts, source = self.store is None, self.config.input
        if self.config.run is not None:
            return run_requests(self.saved.collection, self._run, self.config.depth, texts=texts)
        if source == "-":
            return json_requests(_standard_input(), "standard input", texts=texts)
        return json_requests(lines(source), source, texts=texts)

    @cached_property
    def store(self) -> EmbeddingStore | None:
        """The store of vectors, if one is configured."""
        return None if self.config.store is None else EmbeddingStore.open(self.config.store)

    @cached_property
    def saved(self) -> SavedModel:
        """The model and the collection that the config names."""
        return SavedModel(self.config, device=self.device)

    @cached_property
    def reranker(self) -> Reranker:
        """Loads the model. Raises `BadInput` if another encoder filled the store."""
        found = self.saved.pe_rank
        chosen = {key: value for key, value in as_dict(self.config.window).items() if value is not None}
        check_arguments(Windows, chosen, "window")
        windows = Windows(**{"window": found.window, "step": found.step, **chosen})
        options: dict[str, Any] = {"windows": windows, "decoder": self.config.decoding, "store": self.store}
        return Reranker(found.model, found.prompts, found.encoder, **options)

    @cached_property
    def _run(self) -> Any:
        return read_run(self.config.run)


def _standard_input() -> Iterator[tuple[int, str]]:
    return ((number, text) for number, text in enumerate(sys.stdin, start=1) if text.strip())
