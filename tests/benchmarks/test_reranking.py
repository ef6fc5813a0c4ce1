"""The benchmark of reranking on a tiny model: every contestant runs, and they rank alike."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from perank.records import Candidates, Passage
from support import tiny

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import reranking as bench
from setting import Setting


class TinySetting(Setting):
    """12 passages, two queries."""

    def __init__(self, folder: Path) -> None:
        model, prompts, encoder = tiny.tiny_model(3), tiny.tiny_prompts(), tiny.tiny_encoder(folder)
        llm = SimpleNamespace(name="tiny")
        self.found = SimpleNamespace(model=model, prompts=prompts, encoder=encoder, llm=llm)  # type: ignore[assignment]
        self.suite = SimpleNamespace(name="tiny", depth=12)  # type: ignore[assignment]
        self.device = torch.device("cpu")
        passages = tuple(Passage(f"p{i}", " ".join(tiny.WORDS[i : i + 4])) for i in range(12))
        self.candidates = [Candidates(tiny.QUERY, passages)] * 2
        vectors = dict(zip((p.id for p in passages), encoder.encode_passages([p.text for p in passages]), strict=True))
        self.store = SimpleNamespace(get=lambda ids: np.stack([vectors[id].numpy() for id in ids]))  # type: ignore[assignment]


def test_every_contestant_is_timed_and_ranks_as_algorithm_1_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting = TinySetting(tmp_path)
    bench.report(setting, rounds=1)
    said = capsys.readouterr().out
    for name in bench.contestants_of(setting):
        assert said.count(name) >= 2
    assert "the whole ranking as the authors' procedure: True" in said
    same = next(line for line in said.splitlines() if line.startswith("the same first ten"))
    assert "+ static, fused layers" in same
    for name in (
        bench.AUTHORS,
        "+ depth",
        "+ speculation",
        "+ speculation, shared prefix",
        "+ static, eager",
        "+ static, fused, shared prefix",
        "+ batches of 2",
        "+ batches of 2, shared prefix",
        "our best, encoding once",
    ):
        assert name in same
