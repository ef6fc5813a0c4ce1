"""What the LLM adds to its anchors, and whether it comes from reading: every unseen collection, with p.

    python experiments/box/controls.py [a saved model: folder or box] [suite=<name> ...]

Rows: first stage, encoder, their fusion, the anchors alone (LLM off), PE-Rank+, and three controls: the LLM reads
another query's words, has another query's vector in its prompt, and sees and scores other passages. All keep the
anchors. Writes controls.csv beside this file.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console

from perank.app.saved_model import SavedModel
from perank.evaluation.evaluator import evaluate_ranker
from perank.files import CONF_DIR
from perank.model.prompts import Prompt
from perank.reporting.rows import ResultRow, rows_from, write_results_csv
from perank.reporting.tables import render_table

HERE = Path(__file__).resolve().parent


class OtherWords:
    """A prompt builder that shows the words of the next query; the queries' vectors stay their own."""

    def __init__(self, prompts: Any, queries: Sequence[str]) -> None:
        self.prompts, self.query_slot = prompts, prompts.query_slot
        self.other = dict(zip(queries, [*queries[1:], *queries[:1]], strict=True))

    def rank(self, query: str, n: int) -> Prompt:
        """The prompt of another query."""
        prompt: Prompt = self.prompts.rank(self.other[query], n)
        return prompt


class Exchanged(torch.nn.Module):
    """E_M, for the LLM alone, of vectors in another order; the anchors have the true ones."""

    def __init__(self, projector: Any) -> None:
        super().__init__()
        self.inner, self.width_in, self.dtype = projector, projector.width_in, projector.dtype

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map passages' vectors [.., N, E] or queries' [B, E]."""
        projected: torch.Tensor = self.inner(vectors[..., self.order(vectors), :])
        return projected

    def order(self, vectors: torch.Tensor) -> list[int]:
        """The places from which the vectors are taken."""
        raise NotImplementedError


class OtherPassages(Exchanged):
    """Passages' vectors shuffled among a query's candidates."""

    def order(self, vectors: torch.Tensor) -> list[int]:
        """See `Exchanged.order`."""
        order = list(range(vectors.shape[-2]))
        if vectors.dim() == 3:
            random.Random(str(len(order))).shuffle(order)
        return order


class OtherQuery(Exchanged):
    """The vector of the batch's next query in place of a query's own."""

    def order(self, vectors: torch.Tensor) -> list[int]:
        """See `Exchanged.order`."""
        order = list(range(vectors.shape[-2]))
        return [*order[1:], *order[:1]] if vectors.dim() == 2 else order


def main() -> None:
    """Measure every collection and write the rows."""
    named = [argument for argument in sys.argv[1:] if "=" not in argument]
    suites = [argument for argument in sys.argv[1:] if "=" in argument] or ["suite=[unseen,pydocs]"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("evaluate", overrides=[f"model={named[0] if named else 'box'}", "dtype=float32", *suites])
    saved, rows = SavedModel(config), []
    for suite in saved.suites:
        rows += measured(saved, suite)
        Console(width=150).print(render_table([row for row in rows if row.collection == suite.name], title=suite.name))
    write_results_csv(HERE / "controls.csv", rows)


def measured(saved: SavedModel, suite: Any) -> list[ResultRow]:
    """All systems on one suite; p-values against encoder, fusion and anchors alone."""
    first, encoder, fusion = saved.suites.baselines(suite, encoder=True)[:3]
    found = saved.pe_rank
    texts = [suite.collection.queries[id].text for id in suite.query_ids]
    systems = {
        "anchors alone": (found.prompts, {"decoder": "anchors"}),
        "PE-Rank+": (found.prompts, {}),
        "control: another query's words": (OtherWords(found.prompts, texts), {}),
    }
    ranked = {}
    for name, (prompts, options) in systems.items():
        ranker = saved.suites.reranker(found.model, prompts, suite, **options)
        ranked[name] = evaluate_ranker(ranker, suite, system=name, batch_size=64, progress=False)
    projector = found.model.projector
    exchanges = {"control: another query's vector": OtherQuery, "control: other passages' vectors": OtherPassages}
    for name, exchanged in exchanges.items():
        found.model.projector = exchanged(projector)
        ranker = saved.suites.reranker(found.model, found.prompts, suite)
        ranked[name] = evaluate_ranker(ranker, suite, system=name, batch_size=64, progress=False)
    found.model.projector = projector
    against = [encoder, fusion, ranked["anchors alone"]]
    labels = {"study": "box", "scale": "embedded", "collection": suite.name}
    return [row for one in (first, encoder, fusion, *ranked.values()) for row in rows_from(one, against, **labels)]


if __name__ == "__main__":
    main()
