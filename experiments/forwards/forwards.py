"""How many forwards speculation takes: by passages in a window, by the size of drafts, and for 100 candidates.

    python experiments/forwards/forwards.py [model=<folder of a saved model>]

Full rankings of windows that hold BM25's top n, and whole rerankings of its top 100 with windows of 20/10, whose
NDCG@10 has to be that of Algorithm 1. Writes results.csv and forwards.png beside this file, or into `into=<folder>`;
`queries=4` is a quick look. Counts don't depend on the machine.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

import perank
from perank.app.assembly import Assembly
from perank.errors import BadInput, exits_cleanly
from perank.evaluation.evaluator import evaluate_ranker
from perank.evaluation.result import device_name
from perank.evaluation.suites import Suite
from perank.files import CONF_DIR
from perank.ranking.draft_tree import draft_tree
from perank.ranking.reranker import Reranker
from perank.ranking.speculative import Speculative
from perank.ranking.windows import Windows
from perank.records import Ranking
from perank.reporting.rows import ResultRow, write_results_csv
from perank.saving.hub import from_pretrained
from perank.saving.pretrained import Pretrained

HERE = Path(__file__).resolve().parent
SUITES = ("dl19", "nfcorpus", "pydocs")
SIZES = (5, 10, 20, 50, 100)
NODES = (4, 12, 32, 64, 128)
"""Tokens a draft; 12 is the default of one row on a CPU, 64 on an accelerator."""


def main() -> None:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if unknown := options.keys() - {"model", "queries", "into"}:
        raise BadInput(f"no such setting: {', '.join(unknown)}", remedy="choose among model, queries and into")
    found = from_pretrained(options.get("model"), dtype="float32")  # in bf16 rounding decides near ties
    into = Path(options.get("into", HERE))
    rows: list[ResultRow] = []
    for name in SUITES:
        for row in measured(found, name, int(options.get("queries", 100))):
            rows.append(row)
            place = f"{row.collection} n = {row.candidates}, windows {row.window}/{row.step}"
            print(f"{place}, {row.variant}: {row.metric} {row.value:.4g}", flush=True)
    write_results_csv(into / "results.csv", rows)
    draw(rows, into / "forwards.png")


def measured(found: Pretrained, name: str, queries: int) -> Iterator[ResultRow]:
    """Everything about one suite."""
    overrides = [f"suite={name}", f"++suite.{name}.depth=100", f"++suite.{name}.max_queries={queries}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        parts = Assembly(compose("evaluate", overrides=overrides))
    parts.encoder = found.encoder
    suite, columns = parts.suites[0], columns_of(found)
    store = parts.suites.candidate_store(suite)

    def ranker(windows: Windows, **more: Any) -> Reranker:
        return Reranker(found.model, found.prompts, found.encoder, windows=windows, store=store, **more)

    for n in SIZES:
        asked = [one.top(n) for one in suite.candidates() if len(one) >= n]
        common = columns | {"collection": suite.collection.name, "candidates": n, "window": n, "step": n}
        for nodes in NODES:
            rankings = ranker(Windows(n, n), decoder=Speculative(nodes)).rank_batch(asked)
            forwards = [ranking.bill.forwards for ranking in rankings]
            for metric, value in spread_of(forwards).items():
                variant = f"drafts of {nodes}"
                yield ResultRow(**common, variant=variant, metric=metric, value=value, n_queries=len(asked))
            if nodes == NODES[-1]:
                for metric, value in by_encoder(found, rankings, store, nodes).items():
                    yield ResultRow(
                        **common, variant=f"{nodes} tokens by the encoder", metric=metric, value=value,
                        n_queries=len(asked),
                    )  # fmt: skip
    top = Windows(20, 10, cutoff=10)
    systems = {
        "Algorithm 1, full rankings": ranker(Windows(20, 10), decoder="constrained"),
        "Algorithm 1, depth": ranker(top, decoder="constrained"),
        **{f"depth, drafts of {nodes}": ranker(top, decoder=Speculative(nodes)) for nodes in NODES},
    }
    for variant, system in systems.items():
        yield from whole(suite, system, columns | {"variant": variant})


def whole(suite: Suite, ranker: Reranker, columns: dict[str, Any]) -> Iterator[ResultRow]:
    """Forwards and NDCG@10 of reranking 100 candidates."""
    result = evaluate_ranker(ranker, suite, batch_size=64, progress=False)
    values = {"forwards_per_query": result.costs["forwards_per_query"], "ndcg@10": result.means["ndcg@10"]}
    common = columns | {"collection": suite.collection.name, "candidates": suite.depth, "window": 20, "step": 10}
    for metric, value in values.items():
        yield ResultRow(**common, metric=metric, value=value, n_queries=result.n_queries)


def spread_of(forwards: Sequence[int]) -> dict[str, float]:
    """The distribution of forwards a window."""
    return {
        "forwards_mean": statistics.fmean(forwards),
        "forwards_median": float(statistics.median(forwards)),
        "forwards_90_percent": float(np.quantile(forwards, 0.9)),
        "forwards_most": float(max(forwards)),
    }


def by_encoder(found: Pretrained, rankings: Sequence[Ranking], store: Any, nodes: int) -> dict[str, float]:
    """How far a draft by the encoder's similarities, read together with the prompt, would have been right.

    It saves a forward where it holds the first ranks; drafts by the LLM's own scores begin behind the first.
    """
    right, first = [], []
    for ranking in rankings:
        query_E = found.encoder.encode_queries([ranking.candidates.query.text]).numpy()[0]
        scores_N = store.get([passage.id for passage in ranking.candidates.passages]) @ query_E
        order = np.argsort(-scores_N, kind="stable")
        unsure = 0.2 * float(scores_N.std())
        tree = draft_tree(scores_N[order].tolist(), order.tolist(), nodes=nodes, depth=len(order), temperature=unsure)
        first.append(tree.items[0] == ranking.order[0])
        node, held = (0, 1) if first[-1] else (None, 0)
        while node is not None and held < len(order):
            node = tree.child(node, ranking.order[held])
            held += node is not None
        right.append(held)
    return {"ranks_right": statistics.fmean(right), "first_rank_right": statistics.fmean(first)}


def columns_of(found: Pretrained) -> dict[str, Any]:
    """What all rows share."""
    return {
        "study": "forwards",
        "scale": "embedded",
        "system": "PE-Rank",
        "encoder": found.encoder.name,
        "backbone": found.llm.name,
        "prompt": found.prompts.version,
        "device": device_name("cpu"),
        "version": perank.__version__,
    }


def draw(rows: Sequence[ResultRow], path: Path) -> None:
    """Mean forwards a window by its passages, a line for every size of drafts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    collections = list(dict.fromkeys(row.collection for row in rows))
    fig, panels = plt.subplots(1, len(collections), figsize=(4.5 * len(collections), 4), layout="constrained")
    for axes, collection in zip(np.atleast_1d(panels), collections, strict=True):
        for nodes in NODES:
            chosen = [r for r in rows if r.collection == collection and r.variant == f"drafts of {nodes}"]
            means = {row.candidates: row.value for row in chosen if row.metric == "forwards_mean"}
            axes.plot([*means], [*means.values()], marker="o", label=f"drafts of {nodes} tokens")
        axes.plot(SIZES, [n - 1 for n in SIZES], color="#888888", linestyle="--", label="Algorithm 1")
        axes.set(title=collection, xlabel="passages in the window", ylabel="forwards", xscale="log", yscale="log")
    axes.legend(fontsize=8)
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    exits_cleanly(main)()
