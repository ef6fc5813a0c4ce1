"""Do the faster decoders give Algorithm 1's rankings? Windows of every size, three collections, number types, batches.

    python experiments/exactness/exactness.py [model=<folder of a saved model>]

Every window is decoded by Algorithm 1, by speculation and by the static engine, in batches of 1, 3 or 16 of any sizes,
with weights in fp64, fp32 and bf16, anchors included where the model has them. In fp64 the full rankings have to be
identical. Elsewhere each first decision that differs is logged with the margin by which Algorithm 1 took it; more than
rounding explains is an error. Writes results.csv beside this file, or into `into=<folder>`; `windows=30 queries=2` is a
quick look.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from tqdm import tqdm

from perank.app.assembly import Assembly
from perank.errors import BadInput, exits_cleanly
from perank.evaluation.result import device_name
from perank.files import CONF_DIR
from perank.ranking.constrained import Constrained
from perank.ranking.decoder import Decoded, Decoder, Window, WindowBatch
from perank.ranking.speculative import Speculative
from perank.ranking.static.decoder import Static
from perank.reporting.rows import ResultRow, write_results_csv
from perank.saving.hub import from_pretrained
from perank.saving.pretrained import Pretrained

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.differences import Difference, differences

HERE = Path(__file__).resolve().parent
SUITES = ("dl19", "nfcorpus", "pydocs")
"""Candidates: BM25's top 100."""
TURNS = (1, 3, 3, 16, 16, 16)
"""Batch sizes of successive windows: those that run alone cost most."""
SYSTEMS: dict[str, Decoder] = {"speculation": Speculative(), "static engine": Static()}
BOUNDS = {"float64": 0.0, "float32": 1e-3, "bfloat16": 0.1}
"""The largest margin, in scores that deviate by about 1 among candidates, that rounding may overturn."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A query and its vector [E], N of its candidates in an order of their own: vectors [N, E], first-stage ranks [N].

    `best_FE` are the vectors of the first stage's best candidates.
    """

    query: str
    query_E: torch.Tensor
    vectors_NE: torch.Tensor
    ranks_N: torch.Tensor
    best_FE: torch.Tensor


@dataclass(slots=True)
class Tally:
    """What comparing a number of windows gave."""

    windows: int = 0
    found: list[Difference] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    forwards: int = 0
    plain_forwards: int = 0

    def add(self, plain: Decoded, fast: Decoded) -> None:
        """Count a batch."""
        self.windows += len(plain.orders)
        self.found += differences(plain, fast)
        self.margins += [margin for row in plain.margins for margin in row]
        self.forwards += sum(fast.forwards)
        self.plain_forwards += sum(plain.forwards)

    @property
    def values(self) -> dict[str, float]:
        """Metric -> value."""
        return {
            "windows": float(self.windows),
            "windows_differing": float(len(self.found)),
            "largest_margin_overturned": max((one.margin for one in self.found), default=0.0),
            "median_margin": statistics.median(self.margins) if self.margins else 0.0,
            "forwards_per_window": self.forwards / self.windows,
            "forwards_per_window_algorithm_1": self.plain_forwards / self.windows,
        }


def main() -> None:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if unknown := options.keys() - {"model", "windows", "queries", "into", "seed"}:
        raise BadInput(
            f"no such setting: {', '.join(unknown)}", remedy="choose among model, windows, queries, into and seed"
        )
    count, seed = int(options.get("windows", 700)), int(options.get("seed", 0))
    queries = int(options["queries"]) if "queries" in options else None
    windows = {name: sample(name, options.get("model"), count, seed, queries) for name in SUITES}
    rows: list[ResultRow] = []
    wrong = 0
    for dtype, bound in BOUNDS.items():
        found = from_pretrained(options.get("model"), dtype=dtype)
        for name, drawn in windows.items():
            for (system, batch), tally in compared(found, drawn, f"{dtype}, {name}").items():
                rows += rows_of(tally, found, system, f"{dtype}, batches of {batch}", name, seed)
                wrong += sum(one.margin > bound or bound == 0 for one in tally.found)
                print(f"{dtype:9} {name:9} {system:14} batches of {batch:2}: {said(tally)}")
    write_results_csv(Path(options.get("into", HERE)) / "results.csv", rows)
    counts = [row for row in rows if row.metric == "windows" and row.system.startswith(next(iter(SYSTEMS)))]
    total = {dtype: sum(row.value for row in counts if dtype in row.variant) for dtype in BOUNDS}
    print(f"windows compared: {total}; differences that rounding doesn't explain: {wrong}")
    raise SystemExit(bool(wrong))


def sample(suite: str, model: str | None, count: int, seed: int, queries: int | None) -> list[Drawn]:
    """Windows of 1 to 100 passages (log-uniform, the extremes among them), from candidates of random queries."""
    few = [] if queries is None else [f"++suite.{suite}.max_queries={queries}"]
    overrides = [f"suite={suite}", f"++suite.{suite}.depth=100", *few]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        parts = Assembly(compose("evaluate", overrides=overrides))
    found = from_pretrained(model)
    parts.encoder, first = found.encoder, found.model.anchors.settings.first if found.model.anchors else 0
    store = parts.suites.candidate_store(parts.suites[0])
    candidates, dice = parts.suites[0].candidates(), random.Random(f"{seed}:{suite}")
    drawn = []
    for i in range(count):
        n = (1, 100)[i] if i < 2 else round(100 ** dice.random())
        asked = dice.choice([one for one in candidates if len(one) >= n])
        ranks = dice.sample(range(len(asked)), n)
        ids = [passage.id for passage in asked.passages]
        vectors_NE, best_FE = (torch.from_numpy(store.get(some)) for some in ([ids[r] for r in ranks], ids[:first]))
        query_E = torch.as_tensor(found.encoder.encode_queries([asked.query.text]))[0]
        drawn.append(Drawn(asked.query.text, query_E, vectors_NE, torch.tensor(ranks), best_FE))
    return drawn


def compared(found: Pretrained, windows: Sequence[Drawn], label: str) -> dict[tuple[str, int], Tally]:
    """System, batch size -> tally; windows take turns among the batch sizes."""
    tallies = {(system, batch): Tally() for system in SYSTEMS for batch in dict.fromkeys(TURNS)}
    turns = [TURNS[i % len(TURNS)] for i in range(len(windows))]
    shares = {batch: [w for w, turn in zip(windows, turns, strict=True) if turn == batch] for batch in TURNS}
    with tqdm(total=len(windows), desc=label, unit="window") as bar:
        for batch, share in shares.items():
            for part in chunks(share, batch):
                plain = decoded(found, part, Constrained())
                for system, decoder in SYSTEMS.items():
                    tallies[system, batch].add(plain, decoded(found, part, decoder))
                bar.update(len(part))
    return tallies


def decoded(found: Pretrained, windows: Sequence[Drawn], decoder: Decoder) -> Decoded:
    """Full rankings of windows that run together."""
    model, batch = found.model, []
    wide = torch.float64 if model.projector.dtype == torch.float64 else torch.float32
    for window in windows:
        n = len(window.vectors_NE)
        query_E = window.query_E.to(wide) if found.prompts.query_slot or model.needs_query else None
        place = (window.ranks_N, window.best_FE.to(wide).sum(0)) if model.needs_origin else (None, None)
        batch.append(Window(found.prompts.rank(window.query, n), window.vectors_NE.to(wide), n, query_E, *place))
    return decoder.decode(found.model, WindowBatch.of(batch))


def chunks(windows: Sequence[Drawn], size: int) -> Iterator[Sequence[Drawn]]:
    """`size` at a time; the last may be fewer."""
    return (windows[start : start + size] for start in range(0, len(windows), size))


def said(tally: Tally) -> str:
    """One line for people."""
    v = tally.values
    return (
        f"{v['windows']:.0f} windows, {v['windows_differing']:.0f} differ, "
        f"largest margin overturned {v['largest_margin_overturned']:.2g} (median margin {v['median_margin']:.2g}), "
        f"{v['forwards_per_window']:.2f} forwards a window for {v['forwards_per_window_algorithm_1']:.2f}"
    )


def rows_of(tally: Tally, found: Pretrained, system: str, variant: str, suite: str, seed: int) -> list[ResultRow]:
    """The tally in the house's schema; `n_queries` counts windows."""
    return [
        ResultRow(
            study="exactness",
            scale="embedded",
            system=f"{system} against Algorithm 1",
            variant=variant,
            encoder=found.encoder.name,
            backbone=found.llm.name,
            prompt=found.prompts.version,
            collection=suite,
            metric=metric,
            value=value,
            n_queries=tally.windows,
            seed=seed,
            device=device_name("cpu"),
            version=version(),
        )
        for metric, value in tally.values.items()
    ]


def version() -> str:
    """perank's."""
    import perank

    return perank.__version__


if __name__ == "__main__":
    exits_cleanly(main)()
