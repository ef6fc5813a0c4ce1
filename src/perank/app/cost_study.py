"""Measure the cost per query and NDCG@10 of PE-Rank and of text listwise reranking with the same LLM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from omegaconf import DictConfig

import perank
from perank.app.saved_model import SavedModel
from perank.baselines.fixed_length import FixedLengthListwise
from perank.errors import BadInput
from perank.evaluation import Evaluation, Suite, device_name, evaluate_ranker
from perank.model import ListwisePrompts
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Bill, Ranker
from perank.reporting import TEXTS, ResultRow, rows_from

COSTS = {"forwards_per_query", "seconds_per_query", *(part.name for part in fields(Bill))}
QUALITY, TOP = "ndcg@10", 10  # the metric of the paper's tables, and the ranks that it depends on


@dataclass(frozen=True, slots=True)
class Contender:
    """A ranker under test; `ranks` counts the ranks it generates over all windows."""

    name: str
    variant: str
    ranker: Ranker
    ranks: int
    one_per_forward: bool = True


class CostStudy:
    """One model on all suites and layouts of a config."""

    def __init__(self, config: DictConfig) -> None:
        self.config, self.saved = config, SavedModel(config, device=config.device)
        self.found = self.saved.pe_rank

    def rows(self) -> Iterator[ResultRow]:
        """Yield all measurements, suite by suite."""
        for suite in self.saved.suites:
            if self.config.quality and QUALITY not in suite.metrics:
                remedy = f"add {QUALITY} to the suite's metrics, or set quality=false"
                raise BadInput(f"quality is measured in {QUALITY}", remedy=remedy, id=f"suite.{suite.name}.metrics")
            sample = replace(suite, max_queries=self.config.queries)
            whole = suite if self.config.quality else sample
            store = self.saved.suites.candidate_store(whole)
            yield from self._lengths(sample)
            for n, window, step in self.config.layouts[self.config.study]:
                windows, top = Windows(window, step), Windows(window, step, cutoff=TOP)
                for contender in self._contenders(windows, n, store):
                    yield from self._costs(contender, replace(sample, depth=n), windows)
                if self.config.quality:
                    ranker = self._ours(top, store=store)
                    found = evaluate_ranker(ranker, replace(suite, depth=n), system="PE-Rank", batch_size=64)
                    rows = self._labelled(found, windows, variant="speculation, stored vectors, top 10 exact")
                    yield from (row for row in rows if row.metric == QUALITY)

    def _contenders(self, windows: Windows, n: int, store: Any) -> list[Contender]:
        """Text listwise comes first: the others are compared with its full answers."""
        top = replace(windows, cutoff=TOP)
        every, read = sum(span.size for span in windows.plan(n)), sum(span.depth for span in top.plan(n))
        prompts = ListwisePrompts(self.found.prompts.tokenizer, max_length=self.config.text_length)
        texts = partial(FixedLengthListwise, self.found.model.llm, prompts)
        plain = partial(self._ours, windows, decoder="constrained", share_prefix=False)
        fast = partial(self._ours, top)
        return [
            Contender(TEXTS, "full answers", texts(windows=windows, every_rank=True), every),
            Contender(TEXTS, "top 10 exact", texts(windows=top), read),
            Contender("PE-Rank", "Algorithm 1, encoding", plain(), every),
            Contender("PE-Rank", "speculation, encoding, top 10 exact", fast(), read, False),
            Contender("PE-Rank", "Algorithm 1, stored vectors", plain(store=store), every),
            Contender("PE-Rank", "speculation, stored vectors, top 10 exact", fast(store=store), read, False),
        ]

    def _ours(self, windows: Windows, **options: Any) -> Reranker:
        return Reranker(self.found.model, self.found.prompts, self.found.encoder, windows=windows, **options)

    def _costs(self, contender: Contender, suite: Suite, windows: Windows) -> Iterator[ResultRow]:
        """Yield means over the sample's queries, after one uncounted warm-up query."""
        if contender.name == TEXTS:
            suite = replace(suite, max_queries=min(self.config.text_queries, self.config.queries))
        contender.ranker.rank_batch([suite.candidates()[0].top(3)])
        found = evaluate_ranker(contender.ranker, suite, system=contender.name, batch_size=1)
        rows = [row for row in self._labelled(found, windows, variant=contender.variant) if row.metric in COSTS]
        yield from rows
        costs, like = {row.metric: row.value for row in rows}, rows[0]
        generated = costs["tokens_generated"] / contender.ranks
        yield replace(like, metric="tokens_generated_per_rank", value=generated)
        if contender.one_per_forward:
            fed_back = costs["forwards_per_query"] - len(windows.plan(suite.depth))
            yield replace(like, metric="tokens_prefill", value=costs["tokens_processed"] - fed_back)

    def _lengths(self, suite: Suite) -> Iterator[ResultRow]:
        """L_p: tokens per passage, by the LLM's tokenizer."""
        texts = [passage.contents for found in suite.candidates() for passage in found.passages]
        tokens = sum(map(len, self.found.prompts.tokenizer(texts, add_special_tokens=False)["input_ids"]))
        yield ResultRow(
            **self._columns,
            system="passages",
            metric="tokens_per_passage",
            value=tokens / len(texts),
            n_queries=len(suite.candidates()),
            collection=suite.collection.name,
        )

    def _labelled(self, found: Evaluation, windows: Windows, *, variant: str) -> list[ResultRow]:
        return rows_from(found, variant=variant, window=windows.window, step=windows.step, **self._columns)

    @property
    def _columns(self) -> dict[str, Any]:
        return {
            "study": self.config.study,
            "scale": "random weights" if self.config.model == "random-7b" else "embedded",
            "encoder": self.found.encoder.name,
            "backbone": f"{self.found.llm.name}, {len(self.found.model.decoder.layers)} layers",
            "prompt": self.found.prompts.version,
            "seed": self.config.seed,
            "device": device_name(self.config.device),
            "version": perank.__version__,
        }
