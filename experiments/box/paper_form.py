"""The paper's form, without anchors, by processor minutes of training: from the language model, and from the reader.

    python experiments/box/paper_form.py language-model=<run> reader=<reader run>,<rank run that started from it>

Every checkpoint of the runs is measured on DL19 and pydocs' test queries (BM25's candidates); a curve's runs follow one
another. Writes paper_form.csv and paper_form.png beside this file; curves that aren't named keep their rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from perank.app.training_run import TrainingRun
from perank.evaluation.evaluator import evaluate_ranker
from perank.files import CONF_DIR
from perank.model.lora import load_trained_state
from perank.training.checkpoints import read_checkpoint

HERE = Path(__file__).resolve().parent
SUITES = ("dl19", "pydocs")
METRIC = "ndcg@10"
COLUMNS = ["curve", "stage", "rows", "minutes", "collection", METRIC]


def main() -> None:
    """Measure all curves, write them and draw."""
    rows = []
    for argument in sys.argv[1:]:
        name, _, folders = argument.partition("=")
        before = 0.0
        for folder in map(Path, folders.split(",")):
            for row in points(folder):
                rows.append([name, *row[:2], round(before + row[2], 1), *row[3:]])
                print(*rows[-1], flush=True)
            before = max(row[3] for row in rows if row[0] == name)
    table = pd.DataFrame(rows, columns=COLUMNS)
    if (HERE / "paper_form.csv").is_file():
        kept = pd.read_csv(HERE / "paper_form.csv")
        table = pd.concat([table, kept[~kept["curve"].isin(table["curve"])]])
    table.to_csv(HERE / "paper_form.csv", index=False)
    draw(table)


def points(run: Path) -> Iterator[tuple[str, int, float, str, float]]:
    """Stage, rows, processor minutes, suite and NDCG@10 of every checkpoint of a run."""
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert isinstance(config, DictConfig)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        suites = compose("evaluate", overrides=[f"suite=[{','.join(SUITES)}]"]).suite
    with open_dict(config):
        config.suite, config.suites, config.max_queries, config.paths.output = suites, None, None, str(run)
    assembly = TrainingRun(config).assembly
    for path in sorted((run / "checkpoints").glob("*.ckpt")):
        held = read_checkpoint(path)
        load_trained_state(assembly.stage, held["state_dict"])
        assembly.model.eval()
        rows = int(held["global_step"]) * int(config.data.batch_size)
        for suite in assembly.suites:
            measured = evaluate_ranker(assembly.ranker(suite), suite, batch_size=64, progress=False)
            score = round(float(measured.means[METRIC]), 4)
            yield config.stage.name, rows, held["processor_seconds"] / 60, suite.name, score


def draw(table: pd.DataFrame) -> None:
    """paper_form.png: a panel per collection."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, panels = plt.subplots(1, len(SUITES), figsize=(10, 4), layout="constrained", sharex=True)
    for axes, suite in zip(panels, SUITES, strict=True):
        for name, curve in table[table["collection"] == suite].groupby("curve", sort=False):
            axes.plot(curve["minutes"], curve[METRIC], marker="o", label=f"from the {name}".replace("-", " "))
        axes.set(title=suite, xlabel="minutes of one core", ylabel="NDCG@10", ylim=(0, None))
    panels[0].legend()
    fig.savefig(HERE / "paper_form.png", dpi=120)


if __name__ == "__main__":
    main()
