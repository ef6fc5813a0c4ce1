"""`python -m perank.doctor`: the paper's runs fit where they should, and what doesn't fit ends with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perank.doctor import doctor, main
from support import toy

PAPER = ["+experiment=rank", "scale=paper"]
pytestmark = toy.QUIET


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no connection")

    for name in ("AutoConfig", "AutoTokenizer"):
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", unreachable)


def plan(folder: Path, *overrides: str, code: int = 0) -> dict[str, Any]:
    paper = PAPER[1:] if any(override.startswith("+experiment=") for override in overrides) else PAPER
    assert toy.command(main, *paper, f"hydra.run.dir={folder}", *overrides) == code
    found: dict[str, Any] = json.loads((folder / "doctor.json").read_text())
    return found


@pytest.mark.parametrize(("trainer", "kind"), [("deepspeed_zero2", "zero2"), ("fsdp", "fsdp")])
def test_the_papers_second_stage_fits_four_gpus_in_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trainer: str, kind: str
) -> None:
    found = plan(tmp_path, f"trainer={trainer}")
    assert (found["setup"]["kind"], found["setup"]["gpus"]) == (kind, 4)
    assert found["work"]["rows"] == 32
    assert found["work"]["steps"] == 7263
    assert sum(part["trained"] for part in found["parts"]) == 7_241_732_096 - 32000 * 4096 + 19_931_136
    said = capsys.readouterr().out
    assert "fits" in said
    assert "needed" in said


def test_stage_1_counts_a_frozen_llm_its_longest_row_and_a_block_of_logits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan(tmp_path, "+experiment=align")
    assert found["shape"]["frozen"]
    assert found["shape"]["longest"][0] > 512 > found["shape"]["lengths"][0]
    (activations,) = (item for item in found["memory"] if item["name"] == "activations")
    assert "1,024 x 32,000 logits x 18 bytes" in activations["sum"]
    said = capsys.readouterr().out
    assert "where the factors come from" in said
    assert "experiments/box" in said


def test_one_small_card_takes_adapters(tmp_path: Path) -> None:
    small = ["trainer=gpu", "gpu=rtx4090_24gb", "data.batch_size=1", "trainer.accumulate_grad_batches=32"]
    found = plan(tmp_path / "lora", *small, "backbone=mistral_lora")
    four_bits = plan(tmp_path / "qlora", *small, "backbone=mistral_lora", "backbone.quantise=true")
    weights = [run["memory"][0]["bytes"] / 2**30 for run in (found, four_bits)]
    assert weights == [pytest.approx(13.58, abs=0.01), pytest.approx(3.92, abs=0.05)]


def test_what_does_not_fit_ends_with_exit_code_2_and_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(tmp_path, "trainer=ddp", code=2)
    said = capsys.readouterr()
    assert "does NOT fit" in said.out
    assert "GiB per GPU, one A100 80 GB has 79.1 GiB" in said.err
    assert "trainer=fsdp" in said.err


def test_the_plan_of_a_small_run_counts_what_its_training_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PERANK_CACHE", str(tmp_path / "cache"))
    world = toy.make_world(tmp_path / "world")
    found = doctor(toy.composed(world, tmp_path, config="doctor"))
    from perank.app.assembly import Assembly

    stage = Assembly(toy.composed(world, tmp_path)).stage
    assert sum(p.numel() for p in stage.parameters() if p.requires_grad) == sum(part.trained for part in found.parts)
    encoder = found.parts[-1].parameters
    assert sum(p.numel() for p in stage.parameters()) == sum(part.parameters for part in found.parts) - encoder
    assert found.work.steps == 12
    assert found.work.rows == 4
