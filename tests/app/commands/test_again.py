"""Command lines to copy: what the remedy shows works where it is pasted into a shell."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from perank.app.commands.again import as_it_was_meant, as_text, quoted
from perank.app.jobs import _expand_home, bad_input
from perank.errors import BadInput
from perank.evaluate import main
from perank.files import CONF_DIR
from support import toy

VALUES = [
    "outputs/epoch=6/model",
    "~/data",
    "a,b",
    "run#2",
    "模型/x",
    "données",
    "it's",
    "run[1]",
    "a{b",
    "R&D",
    "a;b",
    'a"b',
    "models (1)/x",
    "a!b",
]


def composed(override: str) -> str:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"), bad_input():
        return str(compose("evaluate", overrides=[override]).model)


@pytest.mark.parametrize("value", VALUES)
def test_the_remedy_shows_the_form_that_hydra_reads_as_it_was_meant(value: str) -> None:
    with pytest.raises(BadInput) as caught:
        composed(f"model={value}")
    shown = re.fullmatch(r"if the value is a text, quote it: (.*)", caught.value.remedy)
    assert shown is not None, caught.value.remedy
    (override,) = shlex.split(shown[1])
    assert composed(override) == value


@given(st.text(st.characters(exclude_categories=["C"]), max_size=12) | st.text("'\"\\ab,=", max_size=8))
def test_any_text_survives_quoting(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(f"key={as_text(text)}").value() == text
    (back,) = shlex.split(quoted("key", text))
    assert back == f"key={as_text(text)}"


def test_a_shell_reads_the_quoted_form_as_one_word() -> None:
    for value in [*VALUES, "$HOME", "`date`", "a\\b"]:
        echoed = subprocess.run(
            ["sh", "-c", f"printf %s {quoted('model', value)}"], capture_output=True, text=True, check=True
        )
        assert echoed.stdout == f"model={as_text(value)}"


def test_what_no_quotes_can_mend_keeps_the_general_remedy() -> None:
    assert as_it_was_meant("no equals sign") is None
    with pytest.raises(BadInput, match="--cfg job"):
        composed("modell=x")


def test_a_tilde_is_the_users_folder_wherever_a_config_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/homes/someone")
    config = OmegaConf.create(
        {"a": {"folder": "~/x", "same": "${a.folder}"}, "runs": ["~/r.trec", 3, "a~/b"], "n": None}
    )
    _expand_home(config)
    assert OmegaConf.to_container(config, resolve=True) == {
        "a": {"folder": "/homes/someone/x", "same": "/homes/someone/x"},
        "runs": ["/homes/someone/r.trec", 3, "a~/b"],
        "n": None,
    }


@pytest.mark.parametrize("name", ["epoch=6", "模型", "a,b#c", "it's"])
def test_a_command_works_with_any_folder_once_it_is_quoted(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.symlink_to(world / "collection")
    chosen = [o for o in toy.overrides(world) if o.startswith(("suite", "encoder", "window"))]
    (collection,) = shlex.split(quoted("suite.beir.collection.folder", str(folder)))
    (output,) = shlex.split(quoted("hydra.run.dir", str(tmp_path / f"run {name}")))
    assert toy.command(main, *chosen, collection, "encoder_alone=false", output) == 0
    assert (tmp_path / f"run {name}" / "metrics.json").is_file()
