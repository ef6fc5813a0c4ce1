"""One window of up to 1,000 candidates: what it costs, and what a model trained at 20 makes of it.

    python experiments/long_windows/long_windows.py [model=<folder of a saved model>]

The built-in documentation, BM25's top n. Seconds and forwards are means over `timed` queries, one at a time; NDCG@10 is
over `queries`, beside the encoder's own order and windows of 20/10 over the same candidates. Writes results.csv and
long_windows.png beside this file, or into `into=<folder>`; `queries=4 timed=1 sizes=20,50` is a quick look.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

import perank
from perank.app.assembly import Assembly
from perank.baselines.encoder_ranker import EncoderRanker
from perank.errors import BadInput, exits_cleanly
from perank.evaluation.evaluator import evaluate_ranker
from perank.evaluation.result import Evaluation, device_name
from perank.files import CONF_DIR
from perank.model.prompts import PromptBuilder
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Ranker
from perank.reporting.rows import ResultRow, write_results_csv
from perank.saving.hub import from_pretrained
from perank.saving.pretrained import Pretrained

HERE = Path(__file__).resolve().parent
SIZES = (20, 50, 100, 200, 500, 1000)
TOP, FULL, SLIDING, ENCODER = "one window, top 10 exact", "one window, full ranking", "windows of 20/10", "encoder"
COLOURS = {TOP: "#4477aa", FULL: "#66ccee", SLIDING: "#ee6677", ENCODER: "#777777"}


def main() -> None:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if unknown := options.keys() - {"model", "queries", "timed", "sizes", "into"}:
        remedy = "choose among model, queries, timed, sizes and into"
        raise BadInput(f"no such setting: {', '.join(unknown)}", remedy=remedy)
    sizes = [int(size) for size in options["sizes"].split(",")] if "sizes" in options else SIZES
    into, rows = Path(options.get("into", HERE)), list[ResultRow]()
    found = from_pretrained(options.get("model"))
    for row in measured(found, sizes, int(options.get("queries", 100)), int(options.get("timed", 5))):
        rows.append(row)
        print(f"n = {row.candidates}, {row.variant}: {row.metric} {row.value:.4g}", flush=True)
    write_results_csv(into / "results.csv", rows)
    draw(rows, into / "long_windows.png")


def measured(found: Pretrained, sizes: Sequence[int], queries: int, timed: int) -> Iterator[ResultRow]:
    """All sizes, all systems."""
    overrides = ["suite=pydocs", f"suite.pydocs.depth={max(sizes)}", f"suite.pydocs.max_queries={queries}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        parts = Assembly(compose("evaluate", overrides=overrides))
    parts.encoder = found.encoder
    suite = parts.suites[0]
    store, prompts = parts.suites.candidate_store(suite), roomy(found)
    found.encoder.encode_queries(["warm"])
    for n in sizes:
        asked, short = replace(suite, depth=n), replace(suite, depth=n, max_queries=timed)

        def ours(window: int, step: int, cutoff: int | None = 10) -> Reranker:
            windows = Windows(window, step, cutoff)
            return Reranker(found.model, prompts, found.encoder, windows=windows, store=store)

        systems: dict[str, Ranker] = {
            ENCODER: EncoderRanker(found.encoder, store),
            TOP: ours(n, n),
            SLIDING: ours(min(n, 20), min(n, 10)),
        }
        columns = columns_of(found) | {"collection": suite.collection.name, "candidates": n}
        for variant, ranker in systems.items():
            result = evaluate_ranker(ranker, asked, batch_size=64, progress=False)
            yield row_of(result, variant, "ndcg@10", result.means["ndcg@10"], columns)
        for variant, ranker in {TOP: ours(n, n), FULL: ours(n, n, None), SLIDING: systems[SLIDING]}.items():
            result = evaluate_ranker(ranker, short, batch_size=1, progress=False)
            for metric in ("forwards_per_query", "seconds_prefill", "seconds_decode", "seconds_per_query"):
                yield row_of(result, variant, metric, result.costs[metric], columns)


def roomy(found: Pretrained) -> PromptBuilder:
    """The model's prompts, as long as its LLM has positions."""
    kept = found.prompts
    room = int(found.model.decoder.config.max_position_embeddings)
    return PromptBuilder(kept.tokenizer, kept.version, query_slot=kept.query_slot, max_length=room)


def row_of(result: Evaluation, variant: str, metric: str, value: float, columns: dict[str, Any]) -> ResultRow:
    """One value."""
    system = "encoder" if variant == ENCODER else "PE-Rank"
    return ResultRow(**columns, system=system, variant=variant, metric=metric, value=value, n_queries=result.n_queries)


def columns_of(found: Pretrained) -> dict[str, Any]:
    """What all rows share."""
    return {
        "study": "long_windows",
        "scale": "embedded",
        "encoder": found.encoder.name,
        "backbone": found.llm.name,
        "prompt": found.prompts.version,
        "first_stage": "Bm25",
        "device": device_name("cpu"),
        "version": perank.__version__,
    }


def draw(rows: Sequence[ResultRow], path: Path) -> None:
    """Seconds and NDCG@10 by the number of candidates."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, metric in zip(np.atleast_1d(panels), ("seconds_per_query", "ndcg@10"), strict=True):
        for variant in dict.fromkeys(row.variant for row in rows):
            points = {r.candidates: r.value for r in rows if r.variant == variant and r.metric == metric}
            if points:
                axes.plot([*points], [*points.values()], marker="o", label=variant, color=COLOURS[variant])
        axes.set(xlabel="candidates (BM25's top n)", ylabel=metric, xscale="log")
        axes.legend(fontsize=8)
    panels[0].set_yscale("log")
    fig.suptitle(f"{rows[0].collection}, {rows[0].device}")
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    exits_cleanly(main)()
