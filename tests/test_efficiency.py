"""perank.efficiency on a tiny model: every system is billed, and the files are written."""

from __future__ import annotations

from pathlib import Path

import torch

from perank.app.cost_study import CostStudy
from perank.planning.random_llm import random_mistral
from perank.reporting.cost_report import write_cost_report
from perank.reporting.rows import read_results_csv
from perank.train import train
from support import tiny, toy

pytestmark = toy.QUIET


def test_every_system_is_measured(tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    from perank.files import CONF_DIR

    world = toy.make_world(tmp_path / "world")
    train(toy.composed(world, tmp_path / "trained", "rank", "data.rows=16", "evaluate=false"))
    chosen = [override for override in toy.overrides(world) if override.startswith("suite")]
    more = [f"model={tmp_path / 'trained' / 'model'}", "dtype=float32", "queries=2", "text_queries=1"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(
            "efficiency", overrides=[*chosen, *more, "layouts.table3_efficiency=[[4,4,2],[5,3,2]]", "text_length=2000"]
        )
    rows = list(CostStudy(config).rows())
    write_cost_report(rows, tmp_path / "out", "a study")
    assert read_results_csv(tmp_path / "out" / "results.csv") == rows
    assert (tmp_path / "out" / "phases.png").is_file() and "L_p" in (tmp_path / "out" / "table.md").read_text()
    forwards = {
        (row.variant, row.candidates): row.value
        for row in rows
        if row.metric == "forwards_per_query" and row.window == 4
    }
    assert forwards["Algorithm 1, stored vectors", 4] == 3
    ranks = {row.system: row.value for row in rows if row.metric == "tokens_generated_per_rank" and row.window == 3}
    assert ranks["PE-Rank"] == 1 < ranks["text listwise"]
    measured = {(row.metric, row.n_queries) for row in rows if row.system == "text listwise"}
    assert ("seconds_per_query", 1) in measured and ("ndcg@10", 1) not in measured


def test_a_random_llm_has_mistrals_shape() -> None:
    with torch.device("meta"):
        model = random_mistral(len(tiny.tiny_tokenizer()), width=8, device="meta", num_hidden_layers=2)
    layer = model.decoder.layers[0]
    assert layer.self_attn.k_proj.weight.shape == (1024, 4096) and layer.mlp.up_proj.weight.shape == (14336, 4096)
    assert model.llm.dtype == torch.bfloat16 and model.projector.dtype == torch.float32
