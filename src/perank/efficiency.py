"""What reranking costs: `python -m perank.efficiency study=table3_efficiency model=<folder>`.

PE-Rank against text listwise reranking by the same LLM, on a sample of queries, one query at a time: tokens, forwards,
and seconds of encoding, prefill and decoding. NDCG@10 is measured besides, on all queries. Writes results.csv, the
table and the figure into the output folder, and into the study's own if `into` names it.
"""

from __future__ import annotations

from omegaconf import DictConfig

from perank.app.cost_study import CostStudy
from perank.app.jobs import run
from perank.errors import BadInput, exits_cleanly
from perank.reporting.cost_report import cost_table, write_cost_report

_SHOWN = ("seconds_per_query", "tokens_per_passage", "ndcg@10")  # while it goes on


def efficiency(config: DictConfig) -> None:
    """Measure, print and write. Raises `BadInput` where nothing is to be measured."""
    from rich.console import Console

    console, rows = Console(width=200), []
    for row in CostStudy(config).rows():
        rows.append(row)
        if row.metric in _SHOWN:
            console.print(f"{row.collection} {row.candidates or ''} {row.system}, {row.variant}: {row.value:.4f}")
    if not rows:
        raise BadInput("nothing was measured", remedy="name a suite and layouts")
    for folder in filter(None, (config.paths.output, config.into)):
        write_cost_report(rows, folder, config.study.name)
    console.print(cost_table(rows), markup=False)


@exits_cleanly
def main() -> None:
    """The command line."""
    run("efficiency", efficiency)


if __name__ == "__main__":
    main()
