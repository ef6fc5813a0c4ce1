"""Quickstart: both stages of PE-Rank on documentation search, evaluated, in one command (`make demo`).

Question: does an LLM that sees one vector per passage learn to rank by it? The aligned-only model and a control with
passage vectors shuffled among candidates are what the ranked model has to beat; BM25, the encoder and their fusion are
what it is up against. Everything is read from the configs; the settings below are the demo's own, smaller than theirs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict
from rich.console import Console
from shuffled_vectors import ShuffledVectors

from perank.app.assembly import Assembly
from perank.errors import BadInput
from perank.evaluation.evaluator import evaluate_ranker
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.files import CONF_DIR
from perank.records import Ranker
from perank.reporting.rows import ResultRow, rows_from, write_results_csv
from perank.reporting.tables import render_table
from perank.saving.hub import from_pretrained
from perank.train import train

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent.parent / "outputs" / "quickstart"
SAMPLE = [
    "collection=pydocs_sentences",
    "collection.collection.limit=4000",
    "suite.pydocs.collection.limit=4000",
    "suite.pydocs.max_queries=400",
]
ALIGN = ["+experiment=align", "data.rows=1000", "data.text_tokens=48"]
SIZE = ["data.rows=8000", "data.batch_size=32", "data.steps=10"]
RANK = ["+experiment=rank", "loss.distil=1.0", "optimizer.lr=1e-3", *SIZE]


def main() -> None:
    """Align, rank, evaluate, report."""
    console, began = Console(width=150), time.perf_counter()
    console.rule("1. align: the projector learns to make the LLM say what a vector stands for")
    align = run("align", [*ALIGN, *SAMPLE, "evaluate=false"])
    console.rule("2. rank: adapters and projector learn to order passages by their vectors")
    aligned = f"projector.path={align.paths.output}/projector.safetensors"
    rank = run("rank", [*RANK, *SAMPLE, aligned, "evaluate=false"])
    console.rule("3. evaluate on test queries: BM25's top 20, one window")
    parts = Assembly(rank)
    suite = parts.suites[0]
    evaluations = evaluate(parts, suite, align, rank)
    rows = result_rows(rank, evaluations)
    write_results_csv(HERE / "results.csv", rows)
    figure(evaluations, HERE / "results.png")
    note = suite.note or f"all {len(suite.query_ids)} test queries"
    console.print(render_table(rows, title=f"documentation search, a sample of 4,000 passages, {note}"))
    console.print(f"model: {rank.paths.output}/model\nresults: {HERE / 'results.csv'}\nfigure: {HERE / 'results.png'}")
    console.print(f"{time.perf_counter() - began:.0f} seconds without installation")


def run(name: str, overrides: list[str]) -> DictConfig:
    """One stage, as `python -m perank.train <overrides>` runs it, into outputs/quickstart/<name>; its config."""
    output = OUTPUT / name
    config = composed(overrides, output)
    Console(width=150).print("python -m perank.train", *overrides, f"hydra.run.dir={output}", style="dim")
    train(config)
    return config


def composed(overrides: list[str], output: Path) -> DictConfig:
    """The config of a command, with its output folder in place of Hydra's."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", overrides=overrides)
    with open_dict(config):
        config.paths.output = str(output)
    return config


def evaluate(parts: Assembly, suite: Suite, align: DictConfig, rank: DictConfig) -> list[Evaluation]:
    """Every system on the suite: baselines first, then the models and the control."""
    systems: dict[str, Ranker] = {}
    for name, folder in [("PE-Rank, aligned only", align.paths.output), ("PE-Rank", rank.paths.output)]:
        systems[name] = reranker(parts, suite, f"{folder}/model")
    systems["control: vectors shuffled"] = ShuffledVectors(systems["PE-Rank"])
    try:
        systems["PE-Rank from the box"] = reranker(parts, suite, None)
    except BadInput as error:
        sys.stderr.write(f"{error}\n")
    models = [evaluate_ranker(ranker, suite, system=name, batch_size=64) for name, ranker in systems.items()]
    return [*parts.suites.baselines(suite), *models]


def reranker(parts: Assembly, suite: Suite, folder: str | None) -> Ranker:
    """A saved model over the suite's candidates; None: the one inside the package."""
    found = from_pretrained(folder)
    return parts.suites.reranker(found.model, found.prompts, suite)


def result_rows(config: DictConfig, evaluations: list[Evaluation]) -> list[ResultRow]:
    """Tidy rows with p-values against BM25, the encoder, their fusion, the aligned-only model and the control."""
    named = {evaluation.system: evaluation for evaluation in evaluations}
    first, encoder, fusion = evaluations[:3]
    rows: list[ResultRow] = []
    for evaluation in evaluations:
        against = [first, encoder, fusion]
        if evaluation.system == "PE-Rank":
            against += [named["PE-Rank, aligned only"], named["control: vectors shuffled"]]
        rows += rows_from(
            evaluation,
            against=against,
            study="quickstart",
            scale=config.scale,
            encoder=config.encoder.name,
            backbone=config.backbone.name,
            prompt=config.prompt.version,
            window=config.window.window,
            step=config.window.step,
            seed=config.seed,
        )
    return rows


def figure(evaluations: list[Evaluation], path: Path) -> None:
    """NDCG@10 of every system with the 95 % interval of its mean over queries."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scores = [list(evaluation.per_query["ndcg@10"].values()) for evaluation in evaluations]
    means = [sum(values) / len(values) for values in scores]
    errors = [
        1.96 * (sum((v - m) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5
        for values, m in zip(scores, means, strict=True)
    ]
    fig, axes = plt.subplots(figsize=(7, 0.5 * len(means) + 1.2), layout="constrained")
    axes.barh([evaluation.system for evaluation in evaluations], means, xerr=errors, color="#4477aa", ecolor="#222222")
    axes.invert_yaxis()
    axes.set(xlabel="NDCG@10 (bars: 95 % interval over queries)", title="Reranking BM25's top 20")
    fig.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
