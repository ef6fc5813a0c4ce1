"""Quickstart: both stages of PE-Rank on documentation search, evaluated, in one command (`make demo`).

Question: does an LLM that sees one vector per passage learn to rank by it? The aligned-only model and a control with
passage vectors shuffled among candidates are what the ranked model has to beat; BM25, the encoder and their fusion are
what it is up against. Everything is read from the configs; the settings below are the demo's own, smaller than theirs.

    make demo                            # writes under outputs/quickstart
    make demo ARGS=--record              # and renews the results next to this file
    make demo ARGS="seed=1"              # settings for both stages, as for perank.train
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict
from rich.console import Console
from shuffled_vectors import ShuffledVectors

from perank.app.assembly import Assembly
from perank.evaluation.evaluator import evaluate_ranker
from perank.evaluation.result import Evaluation
from perank.evaluation.suites import Suite
from perank.files import CONF_DIR, atomic_write
from perank.records import Ranker
from perank.reporting.rows import ResultRow, rows_from, write_results_csv
from perank.reporting.tables import markdown_table, render_table
from perank.saving.hub import from_pretrained
from perank.train import train

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent.parent / "outputs" / "quickstart"
RESULTS, TABLE, FIGURE = "results.csv", "table.md", "results.png"
SAMPLE = [
    "collection=sentences",
    "collection@collection.collection=pydocs",
    "collection.each=2",
    "collection.spans=0",
    "collection.collection.limit=4000",
    "suite.pydocs.collection.limit=4000",
    "suite.pydocs.max_queries=400",
]
# Vectors large beside token embeddings, and the query's at the end of the prompt: what is read there begins as it.
VECTORS = ["projector.init=isometry", "projector.scale=20"]
ALIGN = ["+experiment=align", *VECTORS, "data.rows=400", "data.text_tokens=32"]
MODEL = ["backbone=smollm2_first2", "prompt.query_slot=last", *VECTORS, "decoding=single_pass"]
SIZE = ["data.rows=4000", "data.batch_size=32", "data.steps=10", "data.shuffle=false"]
RANK = ["+experiment=rank", *MODEL, "loss.distil=1.0", "optimizer.lr=1e-4", "optimizer.projector_lr=1e-4", *SIZE]
ALIGNED, RANKED, PLUS, CONTROL = "PE-Rank, aligned only", "PE-Rank", "PE-Rank+", "control: vectors shuffled"
NOTE = """\
- {ALIGNED}: stage 1, just now, on {aligned:,} passages; the LLM is as it was published.
- {RANKED}: stage 2, just now, on {ranked:,} rows, from what stage 1 left and the LLM as it was published, without
  anchors. Its scores are the LLM's alone, which sees one vector per passage, and the query's; one forward a query.
- {PLUS}: the packaged model, not trained here. The encoder's similarity and BM25's rank are added to the LLM's scores.
- {CONTROL}: {RANKED} with every passage shown by another candidate's vector."""

Spent = dict[str, tuple[float, float]]  # phase -> seconds and processor seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Align, rank, evaluate, report."""
    options = parsed(arguments)
    console, spent = Console(width=150), Spent()
    with phase("align", "the projector learns to make the LLM say what a vector stands for", console, spent):
        align = run("align", [*ALIGN, *SAMPLE, "evaluate=false", *options.overrides])
    with phase("rank", "LLM and projector learn to order passages by their vectors", console, spent):
        left = f"projector.path={align.paths.output}/projector.safetensors"
        rank = run("rank", [*RANK, left, *SAMPLE, "evaluate=false", *options.overrides])
    with phase("evaluate", "on test queries: BM25's top 20, one window", console, spent):
        suite, evaluations = evaluate(align, rank)
    report(align, rank, suite, evaluations, console)
    if options.record:
        record()
    console.print(*(f"{name}: {wall:.0f} s ({cpu:.0f} s of CPU)" for name, (wall, cpu) in spent.items()), sep="; ")
    console.print(f"{sum(wall for wall, _ in spent.values()):.0f} seconds without installation")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line (None: the process's own)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help=f"renew the committed {RESULTS}, {TABLE} and {FIGURE}")
    parser.add_argument("overrides", nargs="*", help="settings for both stages, as for perank.train")
    return parser.parse_args(arguments)


@contextmanager
def phase(name: str, title: str, console: Console, spent: Spent) -> Iterator[None]:
    """Print a title, and note how long the phase took."""
    console.rule(f"{len(spent) + 1}. {name}: {title}")
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    spent[name] = time.perf_counter() - wall, time.process_time() - cpu


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


def evaluate(align: DictConfig, rank: DictConfig) -> tuple[Suite, list[Evaluation]]:
    """Every system on the suite: baselines first, then the models and the control."""
    parts = Assembly(rank)
    suite = parts.suites[0]
    folders = {ALIGNED: f"{align.paths.output}/model", RANKED: f"{rank.paths.output}/model", PLUS: None}
    systems: dict[str, Ranker] = {name: reranker(parts, suite, folder) for name, folder in folders.items()}
    systems[CONTROL] = ShuffledVectors(systems[RANKED])
    models = [evaluate_ranker(ranker, suite, system=name, batch_size=64) for name, ranker in systems.items()]
    return suite, [*parts.suites.baselines(suite), *models]


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
        if evaluation.system == RANKED:
            against += [named[ALIGNED], named[CONTROL]]
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


def report(align: DictConfig, rank: DictConfig, suite: Suite, evaluations: list[Evaluation], console: Console) -> None:
    """Write results and figure, and print the table."""
    rows = result_rows(rank, evaluations)
    title = f"documentation search, {suite.note or f'all {len(suite.query_ids)} test queries'}"
    said = note(align, rank)
    write_results_csv(OUTPUT / RESULTS, rows)
    with atomic_write(OUTPUT / TABLE) as file:
        file.write(f"{title}\n\n{markdown_table(rows)}\n{said}\n")
    figure(evaluations, OUTPUT / FIGURE)
    console.print(render_table(rows, title=title))
    console.print(said, highlight=False)
    console.print(f"model: {rank.paths.output}/model", *(OUTPUT / name for name in (RESULTS, TABLE, FIGURE)), sep="\n")


def record() -> None:
    """Copy the results to the committed example next to this file."""
    for name in (RESULTS, TABLE, FIGURE):
        shutil.copy(OUTPUT / name, HERE / name)


def note(align: DictConfig, rank: DictConfig) -> str:
    """What each row of the table was trained on."""
    names = {"ALIGNED": ALIGNED, "RANKED": RANKED, "PLUS": PLUS, "CONTROL": CONTROL}
    return NOTE.format(**names, aligned=align.data.rows, ranked=rank.data.rows)


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
