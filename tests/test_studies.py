"""The studies: every table's sweep composes at both scales, and its paper.csv holds the paper's own figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from perank.paths import CONF_DIR, PACKAGE_DIR
from perank.reporting.grid import make_grid
from perank.reporting.rows import read_results_csv
from perank.tabulate import read_layout

STUDIES = PACKAGE_DIR.parent.parent / "experiments"
TABLES = {
    "table1": ("table1_beir", 80),  # experiment=train_table1: table1 is the other systems', for perank.evaluate
    "table2": ("table2_trec_dl", 28),
    "table4": ("table4_training_strategies", 20),
    "table5": ("table5_encoders", 21),
}
EXPERIMENT = {"table1": "train_table1", "table2": "train_table2", "table4": "table4", "table5": "table5"}


@pytest.fixture(scope="module", autouse=True)
def hydra_at_conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield


@pytest.mark.parametrize("table", TABLES)
def test_papers_figures_are_those_of_the_text_and_fit_the_layout(table: str, shared: Path) -> None:
    folder, count = STUDIES / TABLES[table][0], TABLES[table][1]
    rows = read_results_csv(folder / "paper.csv")
    assert len(rows) == count
    text = (shared / "reference" / "pe-rank-paper.txt").read_text(encoding="utf-8")
    printed = re.search(rf"^Table {table[-1]}: .*?(?=^Table {int(table[-1]) + 1}: |^## |^5\.3\.|\Z)", text, re.M | re.S)
    assert printed is not None
    for row in rows:
        assert f"{row.value:.4f}" in printed[0], row
    layout = read_layout(folder)
    grid = make_grid(layout, [], rows)
    assert sum(len(line.paper) for line in grid.lines) - (len(grid.lines) if layout.average else 0) == count


@pytest.mark.parametrize("scale", ["embedded", "paper"])
@pytest.mark.parametrize("table", TABLES)
def test_every_tables_sweep_composes(table: str, scale: str) -> None:
    config = compose(
        "train", overrides=[f"+experiment={EXPERIMENT[table]}", f"scale={scale}"], return_hydra_config=True
    )
    assert config.labels.study == table
    assert config.hydra.sweep.dir == f"multirun/{table}-{scale}"
    assert config.scale == scale
    for group, options in config.hydra.sweeper.params.items():
        for option in str(options).split(","):
            assert compose(
                "train", overrides=[f"+experiment={EXPERIMENT[table]}", f"scale={scale}", f"{group}={option}"]
            )


def test_the_rows_of_table_4_differ_in_alignment_and_loss_alone() -> None:
    found = {}
    for row in "abcde":
        config = compose("train", overrides=["+experiment=table4", f"variant=table4_{row}"])
        weights = (config.loss.rank, config.loss.content, config.loss.alpha)
        found[row] = (config.alignment.overrides is not None, *weights)
        assert config.labels.variant.startswith(f"({row})")
    assert found == {
        "a": (True, 1.0, 1.0, 0.2),
        "b": (False, 1.0, 1.0, 0.2),
        "c": (True, 1.0, 0.0, 0.0),
        "d": (True, 1.0, 1.0, 0.0),
        "e": (True, 1.0, 0.0, 0.2),
    }


@pytest.mark.parametrize("table", TABLES)
def test_the_readme_names_the_commands_and_every_layout_is_read(table: str) -> None:
    folder = STUDIES / TABLES[table][0]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for scale in ("embedded", "paper"):
        assert f"python -m perank.train -m +experiment={EXPERIMENT[table]} scale={scale}" in readme
    assert f"--study experiments/{folder.name}" in readme
    assert read_layout(folder).title.startswith(f"Table {table[-1]}")
