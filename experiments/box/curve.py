"""The learning curve of a run: NDCG@10 on dev queries against rows seen, one point a checkpoint.

    python experiments/box/curve.py <output folder of perank.train> [queries]

Writes curve.csv and curve.png beside this file. The dashed lines are BM25 and the encoder on the same queries.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from perank.app.run_folder import assembled_at, checkpoints, run_config
from perank.app.settings import instantiate
from perank.evaluation.evaluator import evaluate_ranker
from perank.evaluation.result import Evaluation
from perank.reporting.rows import ResultRow, rows_from, write_results_csv
from perank.training.checkpoints import read_checkpoint

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Evaluate every numbered checkpoint."""
    folder, queries = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 400
    config = run_config(folder)
    settings = config.suite.pydocs
    settings.collection.split, settings.max_queries, settings.metrics = "dev", queries, ["ndcg@10"]
    suite = instantiate(settings)
    rows: list[ResultRow] = []
    baselines = None
    for checkpoint in checkpoints(folder):
        if checkpoint.stem == "last":
            continue
        parts = assembled_at(folder, checkpoint)
        baselines = baselines or parts.suites.baselines(suite)
        if not rows:
            rows += [row for baseline in baselines for row in labelled(baseline, baseline.system)]
        seen = int(read_checkpoint(checkpoint)["global_step"]) * config.data.batch_size
        ranked = evaluate_ranker(
            parts.suites.reranker(parts.model, parts.prompts, suite), suite, batch_size=64, progress=False
        )
        Console().print(f"{seen} rows: {ranked.means['ndcg@10']:.4f}")
        rows += labelled(ranked, f"{seen} rows")
    write_results_csv(HERE / "curve.csv", rows)
    draw(rows)


def labelled(evaluation: Evaluation, variant: str) -> list[ResultRow]:
    """Result rows of one point."""
    return rows_from(evaluation, study="box", scale="embedded", variant=variant)


def draw(rows: list[ResultRow]) -> None:
    """curve.png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = [row for row in rows if row.metric == "ndcg@10"]
    curve = [(int(row.variant.split()[0]), row.value) for row in points if row.variant.endswith(" rows")]
    fig, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(*zip(*curve, strict=True), marker="o", color="#4477aa", label="PE-Rank, embeddings only")
    for row, color in zip(
        [row for row in points if not row.variant.endswith(" rows")], ("#bb5566", "#004488"), strict=True
    ):
        axes.axhline(row.value, linestyle="--", color=color, label=row.system)
    axes.set(xlabel="training rows seen", ylabel=f"NDCG@10, {points[0].n_queries} dev queries, BM25's top 20")
    axes.legend()
    fig.savefig(HERE / "curve.png", dpi=150)


if __name__ == "__main__":
    main()
