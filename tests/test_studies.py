"""The studies: every command that is written down composes, and each paper.csv holds the paper's own figures."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from perank.app.commands.renamed import check_overrides
from perank.app.schema import SCHEMAS
from perank.app.settings import check_config
from perank.files import CONF_DIR, PACKAGE_DIR
from perank.reporting.grid import make_grid
from perank.reporting.rows import read_results_csv
from perank.tabulate import read_layout

CHECKOUT = PACKAGE_DIR.parent.parent
STUDIES = CHECKOUT / "experiments"
PAGES = [
    path
    for pattern in ("README.md", "CHANGELOG.md", "docs/*.md", "experiments/README.md", "experiments/*/README.md")
    for path in sorted(CHECKOUT.glob(pattern))
]
COMMAND = re.compile(r"python -m perank\.(\w+)((?: +[^\s`|]+)*)")
OF_A_PROJECT = re.compile(r"--config-dir|mine\.")  # commands of docs/extending.md that need its own files
OF_ONE_SCALE = re.compile(r"scale=|experiment=box|backbone\.num_layers")
TABLES = {
    "table1": ("table1_beir", 80),
    "table2": ("table2_trec_dl", 28),
    "table4": ("table4_training_strategies", 20),
    "table5": ("table5_encoders", 21),
}
EXPERIMENT = {table: "table4" if table == "table4" else f"tables variant={table}" for table in TABLES}


@pytest.fixture(scope="module", autouse=True)
def hydra_at_conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def texts() -> Iterator[str]:
    """What shows commands to users: the pages, and what `--help` begins with."""
    yield from (page.read_text(encoding="utf-8") for page in PAGES)
    yield from (str(inspect.getdoc(import_module(f"perank.{name}"))) for name in SCHEMAS)


def commands() -> list[list[str]]:
    """(command, its overrides) for every command of these texts that Hydra composes."""
    found = []
    for text in texts():
        for name, rest in COMMAND.findall(re.sub(r"\\\n\s*", "", text)):
            words = shlex.split(re.sub(r"<[^>]*>", "X", rest), comments=True)
            overrides = [word for word in words if "=" in word]
            if name in SCHEMAS and overrides and not OF_A_PROJECT.search(rest):
                found.append([name, *overrides])
    return [list(command) for command in dict.fromkeys(map(tuple, found))]


def jobs(overrides: list[str]) -> Iterator[list[str]]:
    """A sweep's jobs, each value of each setting in one of them at least."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parsed
    ]
    first = [values[0] for values in swept]
    for row in zip_longest(*swept):
        yield [value or default for value, default in zip(row, first, strict=True)]


def composed(name: str, overrides: list[str]) -> DictConfig:
    """The config of a command, checked as the command checks it before it begins."""
    check_overrides(overrides)
    config = compose(name, overrides=["hydra.runtime.output_dir=X", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    check_config(SCHEMAS[name], OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
    return config


@pytest.mark.parametrize("command", commands(), ids=lambda command: " ".join(command)[:90])
def test_every_command_that_is_written_down_composes(command: list[str]) -> None:
    name, *overrides = command
    any_scale = name in ("train", "doctor") and not OF_ONE_SCALE.search(" ".join(overrides))
    for scale in (["scale=embedded"], ["scale=paper"]) if any_scale else ([],):
        for job in jobs(overrides):
            composed(name, [*job, *scale])


def test_commands_of_pages_and_of_help_are_found() -> None:
    assert len(commands()) > 60
    assert ["train", "+experiment=align"] in commands()


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
    chosen = [*f"+experiment={EXPERIMENT[table]}".split(), f"scale={scale}"]
    config = composed("train", chosen)
    assert config.labels.study == table
    assert config.hydra.sweep.dir == f"multirun/{table}-{scale}"
    assert config.scale == scale
    swept = [f"{setting}={values}" for setting, values in config.hydra.sweeper.params.items()]
    for job in jobs([*chosen, *swept]):
        composed("train", job)


@pytest.mark.parametrize("scale", ["embedded", "paper"])
def test_runs_of_a_study_are_small_on_a_laptop_and_the_papers_elsewhere(scale: str) -> None:
    whole = composed("train", ["+experiment=rank", f"scale={scale}"])
    for table in TABLES:
        config = composed("train", [*f"+experiment={EXPERIMENT[table]}".split(), f"scale={scale}"])
        sizes = ("rows", "candidates", "batch_size")
        if scale == "paper":
            assert [config.data[key] for key in sizes] == [whole.data[key] for key in sizes]
            assert config.alignment.first
        else:
            assert config.data.rows < whole.data.rows
            assert config.alignment.first == (table == "table4")


def test_the_rows_of_table_4_differ_in_alignment_and_loss_alone() -> None:
    found = {}
    for row in "abcde":
        config = composed("train", ["+experiment=table4", f"variant=table4_{row}"])
        found[row] = (config.alignment.first, config.loss.rank, config.loss.content, config.loss.alpha)
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
