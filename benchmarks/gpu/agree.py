"""Orders of the packaged model on a GPU in fp32, bf16 and fp16, alone and batched, against those of a CPU in fp32.

First where the data is, then where the GPU is; the file holds queries, vectors and the CPU's orders (5 MB).

    python benchmarks/gpu/agree.py --make orders.npz                   # on a CPU, a minute
    python benchmarks/gpu/agree.py --orders orders.npz --into agree.csv    # about a minute on an H100
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from random_ranker import RandomRanker
from session import Session, parser

from perank.errors import BadInput, exits_cleanly
from perank.model.pe_rank import PERank
from perank.model.prompts import PromptBuilder
from perank.ranking.reranker import Reranker
from perank.records import Candidates, Passage, Query
from perank.saving.hub import from_pretrained

TOP = 10


def main() -> None:
    """Write the CPU's orders, or compare with them."""
    options = parser(__doc__)
    options.add_argument("--make", type=Path, help="write the CPU's orders into this file")
    options.add_argument("--orders", type=Path, help="a file that --make wrote")
    options.add_argument("--model", default=None, help="a saved model (default: the packaged one)")
    options.add_argument("--suite", default="dl19")
    options.add_argument("--queries", type=int, default=30)
    options.add_argument("--batch", type=int, default=16)
    chosen = options.parse_args()
    if chosen.make is not None:
        make(chosen)
    if chosen.orders is not None:
        compare(chosen)
    elif chosen.make is None:
        raise BadInput("nothing to do", remedy="give --make or --orders", id="agree")


@dataclass
class Orders:
    """Q queries with N candidates each: `vectors_QNE` fp32, and the CPU's rankings `order_QN`."""

    queries: list[str]
    vectors_QNE: np.ndarray
    order_QN: np.ndarray

    def candidates(self) -> list[Candidates]:
        """Passages named by their place in `vectors_QNE`, without texts."""
        n = self.vectors_QNE.shape[1]
        return [
            Candidates(Query(f"q{q}", text), tuple(Passage(f"{q} {i}", "") for i in range(n)))
            for q, text in enumerate(self.queries)
        ]

    def get(self, ids: list[str]) -> np.ndarray:
        """Vectors by passage id: what a store gives."""
        return np.stack([self.vectors_QNE[tuple(map(int, id.split()))] for id in ids])


def make(chosen: argparse.Namespace) -> None:
    """Rank with Algorithm 1's decoder in fp32 on the CPU and save the orders."""
    queries, vectors_QNE = random_inputs() if chosen.smoke else suite_inputs(chosen)
    orders = Orders(queries, vectors_QNE, np.empty(0))
    found = reranker(chosen, orders, "cpu", "float32", "constrained").rank_batch(orders.candidates())
    np.savez_compressed(
        chosen.make, queries=np.array(queries), vectors=vectors_QNE, orders=np.array([one.order for one in found])
    )


def compare(chosen: argparse.Namespace) -> None:
    """Rank on the device in every type and way, and write how far the orders agree."""
    with np.load(chosen.orders) as file:
        orders = Orders(file["queries"].tolist(), file["vectors"], file["orders"])
    with Session(chosen, study="gpu_agree", candidates=orders.vectors_QNE.shape[1]) as session:
        ways = [(dtype, decoder) for dtype in ("float32", "bfloat16", "float16") for decoder in ("constrained", "auto")]
        for dtype, decoder in session.within(ways):
            ours = reranker(chosen, orders, str(session.device), dtype, decoder)
            for batch in session.within([1, chosen.batch]):
                asked = orders.candidates()
                parts = [asked[start : start + batch] for start in range(0, len(asked), batch)]
                found = np.array([one.order for part in parts for one in ours.rank_batch(part)])
                record(session, f"{dtype}, {decoder}, {batch} together", found, orders.order_QN)


def record(session: Session, variant: str, found_QN: np.ndarray, cpu_QN: np.ndarray) -> None:
    """Shares of queries and of first ranks that agree."""
    top, cpu = found_QN[:, :TOP], cpu_QN[:, :TOP]
    members = [len(set(a) & set(b)) / len(b) for a, b in zip(top.tolist(), cpu.tolist(), strict=True)]
    columns = {"variant": variant, "n_queries": len(cpu)}
    session.add("PE-Rank", "same_ranking", float((found_QN == cpu_QN).all(1).mean()), **columns)
    session.add("PE-Rank", "same_top_10", float((top == cpu).all(1).mean()), **columns)
    session.add("PE-Rank", "same_first", float((top[:, 0] == cpu[:, 0]).mean()), **columns)
    session.add("PE-Rank", "members_of_top_10", float(np.mean(members)), **columns)


def reranker(chosen: argparse.Namespace, orders: Orders, device: str, dtype: str, decoder: str) -> Reranker:
    """The model in that type on that device, with the file's vectors."""
    model, prompts = parts(chosen, device, dtype)
    return Reranker(model, prompts, None, store=orders, decoder=decoder)


def parts(chosen: argparse.Namespace, device: str, dtype: str) -> tuple[PERank, PromptBuilder]:
    """The saved model's, or a tiny random one's."""
    if chosen.smoke:
        tiny = RandomRanker.of(torch.device(device), tiny=True)
        return tiny.model.to(getattr(torch, dtype)), tiny.prompts
    found = from_pretrained(chosen.model, device=device, dtype=dtype)
    return found.model, found.prompts


def random_inputs() -> tuple[list[str], np.ndarray]:
    """Two queries with 25 random vectors."""
    noise = np.random.default_rng(0).standard_normal((2, 25, 768), dtype=np.float32)
    return ["a query", "another query"], noise / np.linalg.norm(noise, axis=-1, keepdims=True)


def suite_inputs(chosen: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """Queries of a suite that have all the candidates it asks for, with the vectors of the model's encoder."""
    from setting import Setting

    setting = Setting(chosen.suite, chosen.model or "box", chosen.queries, 100, "cpu", "float32")
    full = [found for found in setting.candidates if len(found) == setting.suite.depth]
    vectors = [setting.store.get([passage.id for passage in found.passages]) for found in full]
    return [found.query.text for found in full], np.stack(vectors).astype(np.float32)


if __name__ == "__main__":
    exits_cleanly(main)()
