"""Measure what reranking costs: PE-Rank against text listwise reranking by the same LLM (Tables 3 and 6, Figure 4).

Examples:
    python -m perank.efficiency
    python -m perank.efficiency study=table3_efficiency model=outputs/rank/<date>/<time>/model
    python -m perank.efficiency study=table6_windows model=box device=cuda
    python -m perank.efficiency model=random-7b device=cuda dtype=bfloat16 quality=false    # Mistral-7B's shape
    python -m perank.efficiency suite=dl19 queries=5 text_queries=2                         # a quick look

Counts tokens and forwards, and times encoding, prefill and decoding, on a sample of queries, one query at a time;
NDCG@10 is measured on all queries. Writes results.csv, the table and the figure into the output folder, and into the
study's own if `into` names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from perank.app.assembly import Assembly
from perank.app.jobs import run
from perank.app.settings import check_type
from perank.baselines.fixed_length import FixedLengthListwise
from perank.errors import BadInput, exits_cleanly
from perank.evaluation.evaluator import evaluate_ranker
from perank.evaluation.result import Evaluation, device_name
from perank.evaluation.suites import Suite
from perank.files import atomic_write
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.prompts import PromptBuilder
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Bill, Ranker
from perank.reporting.figures import phase_bars
from perank.reporting.rows import ResultRow, rows_from, write_results_csv
from perank.reporting.tables import TEXTS, latency_table

if TYPE_CHECKING:
    from perank.saving.pretrained import Pretrained

COSTS = {"forwards_per_query", "seconds_per_query", *(part.name for part in fields(Bill))}
TOP = 10  # ranks that NDCG@10 looks at


@dataclass(frozen=True, slots=True)
class System:
    """A ranker under test: how many ranks it writes of all windows, and whether one a forward."""

    name: str
    variant: str
    ranker: Ranker
    ranks: int
    one_a_forward: bool = True


class Study:
    """One model on all suites and layouts of a config."""

    def __init__(self, config: DictConfig) -> None:
        for key, kind in {"model": str, "dtype": str, "device": str, "queries": int, "quality": bool}.items():
            check_type(config[key], kind, key)
        self.config, self.assembly = config, Assembly(config)
        self.found = pretrained(config.model, self.assembly, config.device, config.dtype)
        self.assembly.encoder = self.found.encoder

    def rows(self) -> Iterator[ResultRow]:
        """Everything that is measured, suite by suite."""
        for suite in self.assembly.suites:
            sample = replace(suite, max_queries=self.config.queries)
            whole = suite if self.config.quality else sample
            store = self.assembly.candidate_store(whole)
            yield from self._lengths(sample)
            for n, window, step in self.config.study.layouts:
                windows, top = Windows(window, step), Windows(window, step, cutoff=TOP)
                for system in self.systems(windows, n, store):
                    yield from self._costs(system, replace(sample, depth=n), windows)
                if self.config.quality:
                    ranker = self._ours(top, store=store)
                    found = evaluate_ranker(ranker, replace(suite, depth=n), system="PE-Rank", batch_size=64)
                    rows = self._labelled(found, windows, variant="speculation, stored vectors, top 10 exact")
                    yield from (row for row in rows if row.metric == "ndcg@10")

    def systems(self, windows: Windows, n: int, store: Any) -> list[System]:
        """Text listwise first: others are measured against its full answers."""
        top = replace(windows, cutoff=TOP)
        every, read = sum(span.size for span in windows.plan(n)), sum(span.depth for span in top.plan(n))
        texts = [self._texts(windows, every_rank=True), self._texts(top)]
        return [
            System(TEXTS, "full answers", texts[0], every),
            System(TEXTS, "top 10 exact", texts[1], read),
            System("PE-Rank", "Algorithm 1, encoding", self._ours(windows, decoder="constrained"), every),
            System("PE-Rank", "speculation, encoding, top 10 exact", self._ours(top), read, False),
            System(
                "PE-Rank", "Algorithm 1, stored vectors", self._ours(windows, decoder="constrained", store=store), every
            ),
            System(
                "PE-Rank",
                "speculation, stored vectors, top 10 exact",
                self._ours(top, store=store),
                read,
                False,
            ),
        ]

    def _ours(self, windows: Windows, **options: Any) -> Reranker:
        return Reranker(self.found.model, self.found.prompts, self.found.encoder, windows=windows, **options)

    def _texts(self, windows: Windows, **options: Any) -> Ranker:
        prompts = ListwisePrompts(self.found.prompts.tokenizer, max_length=self.config.text_length)
        return FixedLengthListwise(self.found.model.llm, prompts, windows=windows, **options)

    def _costs(self, system: System, suite: Suite, windows: Windows) -> Iterator[ResultRow]:
        """Means over the sample's queries, after a first one that isn't counted."""
        if system.name == TEXTS:
            suite = replace(suite, max_queries=min(self.config.text_queries, self.config.queries))
        system.ranker.rank_batch([suite.candidates()[0].top(3)])
        found = evaluate_ranker(system.ranker, suite, system=system.name, batch_size=1)
        rows = [row for row in self._labelled(found, windows, variant=system.variant) if row.metric in COSTS]
        yield from rows
        costs, like = {row.metric: row.value for row in rows}, rows[0]
        generated = costs["tokens_generated"] / system.ranks
        yield replace(like, metric="tokens_generated_per_rank", value=generated)
        if system.one_a_forward:
            fed_back = costs["forwards_per_query"] - len(windows.plan(suite.depth))
            yield replace(like, metric="tokens_prefill", value=costs["tokens_processed"] - fed_back)

    def _lengths(self, suite: Suite) -> Iterator[ResultRow]:
        """L_p: tokens a passage, by the LLM's tokenizer."""
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
        import perank

        return {
            "study": self.config.study.name,
            "scale": "random weights" if self.config.model == "random-7b" else "embedded",
            "encoder": self.found.encoder.name,
            "backbone": f"{self.found.llm.name}, {len(self.found.model.decoder.layers)} layers",
            "prompt": self.found.prompts.version,
            "seed": self.config.seed,
            "device": device_name(self.config.device),
            "version": perank.__version__,
        }


def pretrained(name: str, assembly: Assembly, device: str, dtype: str) -> Pretrained:
    """A saved model, or one of Mistral-7B's shape with random weights over the config's encoder and prompt."""
    from perank.model.llm import LLMSettings
    from perank.model.random_llm import random_mistral
    from perank.saving.hub import from_pretrained
    from perank.saving.pretrained import Pretrained

    if name != "random-7b":
        return from_pretrained(None if name == "box" else name, device=device, dtype=dtype)
    tokenizer, encoder = LLMSettings().tokenizer(), assembly.make("encoder", device=device)
    prompts = PromptBuilder(tokenizer, **assembly.settings("prompt", PromptBuilder, "tokenizer"))
    model = random_mistral(tokenizer, width=encoder.width, device=device, dtype=dtype)
    llm = LLMSettings(name="random, Mistral-7B's shape")
    return Pretrained(model=model, prompts=prompts, encoder=encoder, llm=llm, folder=Path())


def lengths(rows: list[ResultRow]) -> str:
    """L_p of every collection, in words."""
    found = [f"{row.collection} {row.value:.1f}" for row in rows if row.metric == "tokens_per_passage"]
    return f"L_p, tokens a passage: {', '.join(found)}\n"


def write(rows: list[ResultRow], folder: str | Path, study: str) -> None:
    """results.csv, table.md and phases.png."""
    write_results_csv(Path(folder) / "results.csv", rows)
    with atomic_write(Path(folder) / "table.md") as file:
        file.write(lengths(rows) + "\n" + latency_table(rows))
    deepest = max(row.candidates or 0 for row in rows)
    bars = [row for row in rows if row.candidates == deepest and row.metric.startswith("seconds_")]
    first = next((row.window, row.step) for row in bars)
    phase_bars(
        [row for row in bars if (row.window, row.step) == first],
        str(Path(folder) / "phases.png"),
        f"{study}: {deepest} candidates, windows {first[0]}/{first[1]}, {rows[0].device}",
    )


@exits_cleanly
def main() -> None:
    """The command line."""
    run("efficiency", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    console, rows = Console(width=200), list[ResultRow]()
    for row in Study(config).rows():
        rows.append(row)
        if row.metric in ("seconds_per_query", "tokens_per_passage", "ndcg@10"):
            console.print(f"{row.collection} {row.candidates or ''} {row.system}, {row.variant}: {row.value:.4f}")
    if not rows:
        raise BadInput("nothing was measured", remedy="name a suite and layouts")
    for folder in filter(None, (config.paths.output, config.into)):
        write(rows, folder, config.study.name)
    console.print(lengths(rows) + latency_table(rows), markup=False)


if __name__ == "__main__":
    main()
