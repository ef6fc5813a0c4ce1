"""Seconds a query for 100 candidates: the authors' procedure, Algorithm 1, each thing that makes it faster, and texts.

Everything runs by turns in one process, with the same LLM, on the same query; rows with batches rank more queries
beside it. Ratios are medians over rounds, with their extremes. Then where the time goes, phase by phase, and how far
each phase is from what the machine's bandwidth and peak, measured in the same run, would allow.

    OMP_NUM_THREADS=1 python benchmarks/reranking.py --model <folder> --rounds 3
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from authors import AuthorsProcedure
from interleaved import seconds_by_turns, speedup
from limits import Limits
from setting import Setting

from perank.errors import exits_cleanly
from perank.ranking.reranker import Reranker
from perank.ranking.static.decoder import Static
from perank.ranking.windows import Windows
from perank.records import Bill, Candidates, Ranker, Ranking

PLAIN = "Algorithm 1, stored vectors"
AUTHORS, TEXTS = "the authors' procedure", "text listwise, full answers"


@dataclass(slots=True)
class Contestant:
    """A ranker, the queries it ranks at once, and what the last round's rankings cost together."""

    ranker: Ranker
    batch: Sequence[Candidates]
    rankings: list[Ranking] = field(default_factory=list)

    def run(self) -> None:
        """Rank the batch."""
        self.rankings = self.ranker.rank_batch(self.batch)

    def warm(self) -> None:
        """Enough of it to load what loads late."""
        self.ranker.rank_batch([self.batch[0].top(3)])

    @property
    def mean(self) -> Bill:
        """The bill of one query; counts are rounded down."""
        total, n = sum((ranking.bill for ranking in self.rankings), Bill()), len(self.rankings)
        counts = (total.forwards, total.tokens_processed, total.tokens_generated)
        phases = (total.seconds_encode, total.seconds_prefill, total.seconds_decode)
        return Bill(*(count // n for count in counts), *(seconds / n for seconds in phases))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="box", help="a saved model, box, or random-7b")
    parser.add_argument("--collections", nargs="+", default=["dl19", "nfcorpus"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="queries that batches rank together")
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--quick", action="store_true", help="one round, 30 candidates, 2 queries: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.batch, options.candidates = 1, 2, 30
    for name in options.collections:
        setting = Setting(name, options.model, options.batch, options.candidates, options.device, options.dtype)
        report(setting, options.rounds)


def report(setting: Setting, rounds: int) -> None:
    """Time all contestants on one collection and print the tables."""
    contestants = contestants_of(setting)
    model = setting.found.model
    dtype = model.llm.get_input_embeddings().weight.dtype
    seconds = seconds_by_turns(
        {name: one.run for name, one in contestants.items()},
        rounds,
        warm={name: one.warm for name, one in contestants.items()},
    )
    each = {name: [s / len(contestants[name].batch) for s in taken] for name, taken in seconds.items()}
    limits = Limits.measured(setting.device, dtype)
    print(
        f"\n{setting.suite.name}: {setting.suite.depth} candidates, {rounds} rounds, {setting.describe()}, "
        f"{torch.get_num_threads()} threads, {dtype}, {limits}".replace("torch.", "")
    )
    print(f"{'':34} {'s/query':>8}  {'times faster than the authors':30} of texts  forwards  tokens")
    for name, one in contestants.items():
        share = statistics.median(each[name]) / statistics.median(each[TEXTS])
        bill = one.mean
        print(
            f"{name:34} {statistics.median(each[name]):8.3f}  {speedup(each[AUTHORS], each[name]):30} {share:8.3f} "
            f"{bill.forwards:9} {bill.tokens_processed:7}"
        )
    plain = contestants[PLAIN].rankings[0].order
    same = [name for name, one in contestants.items() if one.rankings[0].order[:10] == plain[:10]]
    print(f"the same first ten as {PLAIN}: {', '.join(name for name in same if name != PLAIN)}")
    print(f"the whole ranking as the authors' procedure: {contestants[AUTHORS].rankings[0].order == plain}")
    print(f"\n{'seconds a query':34}   encode  prefill   decode     rest   least prefill, decode")
    for name, one in contestants.items():
        print(f"{name:34} {phases(setting, one, statistics.median(each[name]), limits)}")


def phases(setting: Setting, one: Contestant, wall: float, limits: Limits) -> str:
    """Seconds by phase, and the floors of prefill and decoding for one query at a time."""
    bill = one.mean
    row = (
        f"{bill.seconds_encode:8.3f} {bill.seconds_prefill:8.3f} {bill.seconds_decode:8.3f} {wall - bill.seconds:8.3f}"
    )
    if len(one.batch) > 1 or not isinstance(one.ranker, Reranker | AuthorsProcedure):
        return row
    least = one.ranker.least_shared if isinstance(one.ranker, Reranker) else math.inf
    prompts = setting.prompt_tokens(one.batch[0], one.ranker.windows, least)
    model = setting.found.model
    prefill = limits.least_seconds(model, len(prompts), sum(prompts))
    decode = limits.least_seconds(model, bill.forwards - len(prompts), bill.tokens_processed - sum(prompts))
    return f"{row}   {prefill:.3f} ({prefill / bill.seconds_prefill:.0%}), {decode:.3f} ({_share(decode, bill)})"


def _share(decode: float, bill: Bill) -> str:
    return f"{decode / bill.seconds_decode:.0%}" if bill.forwards > 1 else "none"


def contestants_of(setting: Setting) -> dict[str, Contestant]:
    """By name, the baseline first."""
    found, one = setting.found, setting.candidates[:1]
    ours: Callable[..., Reranker] = partial(Reranker, found.model, found.prompts, found.encoder)
    stored = partial(ours, store=setting.store, share_prefix=False)
    together = f"batches of {len(setting.candidates)}"
    w20, top, deepest = Windows(20, 10), Windows(20, 10, cutoff=10), max(setting.suite.depth, 20)
    whole = Windows(deepest, deepest, cutoff=10)
    return {
        AUTHORS: Contestant(AuthorsProcedure(found.model, found.prompts, found.encoder), one),
        "Algorithm 1, encoding once": Contestant(ours(windows=w20, decoder="constrained"), one),
        "our best, encoding once": Contestant(ours(windows=top), one),
        PLAIN: Contestant(stored(windows=w20, decoder="constrained"), one),
        "+ depth (top 10 exact)": Contestant(stored(windows=top, decoder="constrained"), one),
        "+ speculation": Contestant(stored(windows=top), one),
        "+ speculation, shared prefix": Contestant(stored(windows=top, share_prefix=True), one),
        "+ static, eager": Contestant(stored(windows=top, decoder=Static(lean=False)), one),
        "+ static, fused layers": Contestant(stored(windows=top, decoder=Static()), one),
        "+ static, fused, shared prefix": Contestant(stored(windows=top, decoder=Static(), share_prefix=True), one),
        f"static, {together}": Contestant(stored(windows=top, decoder=Static()), setting.candidates),
        f"static, shared prefix, {together}": Contestant(
            stored(windows=top, decoder=Static(), share_prefix=True), setting.candidates
        ),
        f"+ {together}": Contestant(stored(windows=top), setting.candidates),
        f"+ {together}, shared prefix": Contestant(stored(windows=top, share_prefix=True), setting.candidates),
        "speculation, full rankings": Contestant(stored(windows=w20), one),
        "single_pass (approximation)": Contestant(stored(windows=w20, decoder="single_pass"), one),
        "speculation, one window": Contestant(stored(windows=whole), one),
        TEXTS: Contestant(setting.text_listwise(w20, every_rank=True), one),
        "text listwise, top 10 exact": Contestant(setting.text_listwise(top), one),
    }


if __name__ == "__main__":
    exits_cleanly(main)()
