"""Measure what reranking costs: PE-Rank against text listwise reranking by the same LLM (Tables 3 and 6, Figure 4).

Examples:
    python -m perank.efficiency
    python -m perank.efficiency study=table3_efficiency model=outputs/rank/<date>/<time>/model
    python -m perank.efficiency study=table6_windows model=box device=cuda
    python -m perank.efficiency model=random-7b device=cuda dtype=bfloat16 quality=false    # Mistral-7B's shape
    python -m perank.efficiency suite=dl19 queries=5 text_queries=2                         # a quick look

Counts tokens and forwards, and times encoding, prefill and decoding, on a sample of queries, one query at a time;
NDCG@10 is measured on all queries. Writes results.csv, table.md and phases.png to the output folder, and to `into` if
set.
"""

from __future__ import annotations

from omegaconf import DictConfig

from perank.app.cost_study import CostStudy
from perank.app.jobs import run
from perank.errors import BadInput, exits_cleanly
from perank.reporting.cost_report import cost_table, write_cost_report

_SHOWN = ("seconds_per_query", "tokens_per_passage", "ndcg@10")  # printed while it runs


def efficiency(config: DictConfig) -> None:
    """Measure, print and write the costs. Raises `BadInput` if there is nothing to measure."""
    from rich.console import Console

    console, rows = Console(width=200), []
    for row in CostStudy(config).rows():
        rows.append(row)
        if row.metric in _SHOWN:
            console.print(f"{row.collection} {row.candidates or ''} {row.system}, {row.variant}: {row.value:.4f}")
    if not rows:
        raise BadInput("nothing was measured", remedy="name a suite and layouts")
    for folder in filter(None, (config.paths.output, config.into)):
        write_cost_report(rows, folder, config.study)
    console.print(cost_table(rows), markup=False)


@exits_cleanly
def main() -> None:
    """The command line."""
    run("efficiency", efficiency)


if __name__ == "__main__":
    main()
