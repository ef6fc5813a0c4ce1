"""Every file in conf/ composes, and what it configures exists and takes the settings it is given."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from perank.paths import CONF_DIR, PACKAGE_DIR

CHECKOUT = PACKAGE_DIR.parent.parent
PICKED_BY_EXPERIMENTS = {"experiment", "hydra"}
# Which entry point has the group, if not perank.train.
ENTRY = {"preparation": "prepare", "study": "efficiency", "gpu": "doctor", "ranker": "evaluate"}
STAGES = {f"perank.training.{name}" for name in ("align.AlignModule", "rank.RankModule", "listwise.ListwiseModule")}
GROUPS = sorted(folder.name for folder in CONF_DIR.iterdir() if folder.is_dir())


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


OPTIONS = [(group, option) for group in GROUPS if group not in PICKED_BY_EXPERIMENTS for option in options(group)]


@pytest.fixture(scope="module", autouse=True)
def hydra_at_conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def composed(name: str, *overrides: str) -> DictConfig:
    """A config as a command composes it, its interpolations able to see Hydra's own settings."""
    settings = ["hydra.runtime.output_dir=outputs/test", *overrides]
    config = compose(name, overrides=settings, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return config


def job(config: DictConfig) -> dict[str, Any]:
    """The job's part with every interpolation resolved; what the user has to name stays `???`."""
    for key in config:
        if key != "hydra" and OmegaConf.is_config(config[key]):
            OmegaConf.resolve(config[key])
    content = OmegaConf.to_container(config)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items() if key != "hydra"}


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a `_target_`, at any depth."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from targets(value)
    if isinstance(node, dict) and "_target_" in node:
        yield node


HYDRA_ENTRIES = {path.stem for path in CONF_DIR.glob("*.yaml")}


def documents() -> list[str]:
    """What shows commands to users: the README, docs/, and the docstrings that `--help` prints."""
    texts = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
    entries = [import_module(f"perank.{name}") for name in sorted(HYDRA_ENTRIES)]
    return [path.read_text(encoding="utf-8") for path in texts] + [str(inspect.getdoc(entry)) for entry in entries]


def commands() -> list[list[str]]:
    """Their `python -m perank.<entry> <overrides>`, a sweep as its first job; a project's own configs aren't here."""
    text = "\n".join(documents()).replace("\\\n", " ")
    found = re.findall(r"^(?:    )?python -m perank\.(\w+ .+)$", text, re.MULTILINE)
    parts = [shlex.split(command.replace("<", "").replace(">", ""), comments=True) for command in found]
    parts = [
        command for command in parts if command[0] in HYDRA_ENTRIES and not {"--config-dir", "--help"} & {*command}
    ]
    words = [[word for word in command if word not in {"-m", "--cfg", "job"}] for command in parts]
    words = [command for command in words if not any("mine." in word for word in command)]
    first = [[re.sub(r"(?<==)([^\[,]+),.*", r"\1", word) for word in command] for command in words]
    return [list(command) for command in dict.fromkeys(map(tuple, first))]


def check(config: DictConfig) -> None:
    """Everything named exists and knows the keywords; more of them may come from code."""
    for node in targets(job(config)):
        settings = {key: value for key, value in node.items() if key != "_target_"}
        if node["_target_"] in STAGES:
            settings.pop("name")  # what the stage is called; the module takes the rest
        inspect.signature(get_object(node["_target_"])).bind_partial(**settings)


COMPARISONS = {"table1", "table2", "table3", "dl19"}  # experiments of perank.evaluate


@pytest.mark.parametrize("experiment", sorted(COMPARISONS))
def test_every_comparison_composes_with_its_systems(experiment: str) -> None:
    config = composed("evaluate", f"+experiment={experiment}")
    assert len(config.ranker) > 2
    check(config)


@pytest.mark.parametrize("scale", options("scale"))
@pytest.mark.parametrize("experiment", sorted(set(options("experiment")) - COMPARISONS))
def test_every_experiment_composes_at_every_scale(experiment: str, scale: str) -> None:
    config = composed("train", f"+experiment={experiment}", f"scale={scale}")
    assert config.scale == scale
    check(config)


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_every_choice_composes(group: str, option: str) -> None:
    config = composed(ENTRY.get(group, "train"), f"{group}={option}")
    assert config.hydra.runtime.choices[group] == option
    check(config)


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF_DIR.glob("*.yaml")))
def test_every_entry_point_has_a_config_that_composes(name: str) -> None:
    check(composed(name))


@pytest.mark.parametrize(("experiment", "stage"), [("align", "align"), ("rank", "rank"), ("rankmistral", "listwise")])
def test_the_stage_picks_data_and_optimizer_of_the_scale(experiment: str, stage: str) -> None:
    for scale in options("scale"):
        choices = composed("train", f"+experiment={experiment}", f"scale={scale}").hydra.runtime.choices
        assert (choices.data, choices.optimizer) == (f"{stage}_{scale}", f"{stage}_{scale}")


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_of_readme_docs_and_help_composes(command: list[str]) -> None:
    entry, *overrides = command
    check(composed(entry, *overrides))


def test_a_setting_that_nothing_takes_is_refused() -> None:
    with pytest.raises(TypeError, match="lerning_rate"):
        check(composed("train", "+optimizer.lerning_rate=1"))


def test_output_goes_by_task_and_time() -> None:
    for experiment in ("align", "rank"):
        assert composed("train", f"+experiment={experiment}").hydra.run.dir.startswith(f"outputs/{experiment}/")
