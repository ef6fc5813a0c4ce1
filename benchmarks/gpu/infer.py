"""Seconds per query and per forward at Mistral-7B's size, for each way of decoding, next to the card's limits.

Random weights: nothing is carried or fetched. Their drafts are accepted at a rate of their own, so seconds per query
are also given for the forwards that the packaged model takes on DL19 (experiments/forwards/results.csv).

    python benchmarks/gpu/infer.py --into infer.csv            # about 4 minutes on an H100
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from random_ranker import RandomRanker
from session import Session, parser

from perank.errors import exits_cleanly
from perank.ranking.decoder import Decoder
from perank.ranking.reranker import Reranker
from perank.ranking.speculative import Speculative
from perank.ranking.static.buckets import bucket_for
from perank.ranking.static.decoder import Static
from perank.ranking.static.engines import Engines
from perank.ranking.windows import Windows
from perank.records import Bill
from perank.reporting.rows import read_results_csv

FORWARDS = Path(__file__).resolve().parents[2] / "experiments" / "forwards" / "results.csv"
ENGINES = {"static, eager": (False, False), "static, graphs": (False, True), "static, lean, graphs": (True, True)}
SHAPES = [(1, 1), (1, 16), (1, 64), (4, 64), (16, 16), (32, 8)]  # rows x draft tokens


def main() -> None:
    """Measure and write the rows."""
    options = parser(__doc__)
    options.add_argument("--candidates", type=int, default=100)
    options.add_argument("--batch", type=int, default=16, help="queries ranked together, next to one at a time")
    chosen = options.parse_args()
    if chosen.smoke:
        chosen.batch = 2
    llm = "random, tiny" if chosen.smoke else "random, Mistral-7B's shape"
    with Session(chosen, study="gpu_infer", backbone=llm, prompt="reference") as session:
        ranker = RandomRanker.of(session.device, tiny=chosen.smoke)
        for batch in session.within([1, chosen.batch]):
            for name, decoder in session.within(list(decoders().items())):
                whole_query(session, ranker, name, decoder(), batch, chosen.candidates)
        for shape in session.within(SHAPES[:2] if chosen.smoke else SHAPES):
            for name in session.within(ENGINES):
                forwards(session, ranker, name, *shape)


def decoders() -> dict[str, Callable[[], Decoder]]:
    """Today's speculation, and the static engine step by step; a new one each time, so that buffers are freed."""
    static = {name: partial(Static, lean=lean, graphs=graphs) for name, (lean, graphs) in ENGINES.items()}
    return {"speculative": Speculative, **static}


def whole_query(
    session: Session, ranker: RandomRanker, name: str, decoder: Decoder, batch: int, candidates: int
) -> None:
    """Windows of 20/10, the first ten ranks exact, vectors from a store."""
    windows = Windows(20, 10, cutoff=10)
    ours = Reranker(ranker.model, ranker.prompts, None, store=ranker.vectors, windows=windows, decoder=decoder)
    asked, bills = ranker.queries(batch, candidates), [Bill()]

    def rank() -> None:
        bills[0] = sum((ranking.bill for ranking in ours.rank_batch(asked)), Bill())

    seconds, bill = session.seconds(rank, repeats=5, warm=3) / batch, bills[0]
    columns = {"variant": f"{name}, {batch} together", "candidates": candidates, "window": 20, "step": 10}
    add = partial(session.add, "PE-Rank", n_queries=batch, **columns)
    prefills = len(windows.plan(candidates))
    drafts = bill.forwards / batch - prefills
    add("seconds_per_query", seconds)
    add("forwards_per_query", bill.forwards / batch)
    add("seconds_prefill", bill.seconds_prefill / batch)
    add("seconds_decode", bill.seconds_decode / batch)
    tokens = sum(len(ranker.prompts.rank(asked[0].query.text, span.size)) for span in windows.plan(candidates))
    least = session.limits.least_seconds
    add("seconds_prefill_at_least", least(ranker.model, prefills, tokens * batch) / batch)
    add(
        "seconds_decode_at_least",
        least(ranker.model, round(drafts), bill.tokens_processed - tokens * batch) / batch,
    )
    if (batch, candidates) == (1, 100):
        per_draft = bill.seconds_decode / batch / drafts
        add("seconds_per_query_with_measured_acceptance", seconds + (measured_drafts(prefills) - drafts) * per_draft)


def measured_drafts(prefills: int) -> float:
    """Draft forwards per query of the packaged model on DL19 with 64 tokens per draft."""
    wanted = ("depth, drafts of 64", "dl19", "forwards_per_query")
    rows = [row for row in read_results_csv(FORWARDS) if (row.variant, row.collection, row.metric) == wanted]
    return rows[0].value - prefills


def forwards(session: Session, ranker: RandomRanker, name: str, rows: int, nodes: int) -> None:
    """Milliseconds of a prefill and of a draft's forward at fixed shapes."""
    lean, graphs = ENGINES[name]
    windows = ranker.windows(rows, 20, 10, session.device)
    longest = int(windows.prompts.length_B.max())
    bucket = bucket_for(session.device, rows, longest, 20, 9, query=False, nodes=nodes)
    engine = Engines(ranker.model, lean, graphs=graphs).of(bucket)
    engine.state.fill(windows)
    columns = {"variant": f"{name}, {rows} x {engine.bucket.nodes} tokens"}
    for phase, run, tokens in (
        ("prefill", engine.prefill, rows * longest),
        ("draft", engine.step, rows * engine.bucket.nodes),
    ):
        session.add("PE-Rank", f"ms_{phase}", 1000 * session.seconds(run), **columns)
        least = session.limits.least_seconds(ranker.model, 1, tokens)
        session.add("PE-Rank", f"ms_{phase}_at_least", 1000 * least, **columns)


if __name__ == "__main__":
    exits_cleanly(main)()
