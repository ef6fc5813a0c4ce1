"""Tokens read and written a query (#Proc and #Gen of Tables 3 and 6), counted without any weights.

A PE-Rank prompt depends on the query and the number of passages alone: a slot is one token whatever the passage. So
the counts need a tokenizer, the queries of DL19 and the prompt that the authors ran. RankMistral's first window, and
its single window over all candidates, need the passages' texts besides: they check that texts and first stage are
the paper's too.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import rankmistral
from ledger import write_ledger
from mistral_v1 import MistralV1, find_model

from perank.errors import BadInput, exits_cleanly
from perank.files import shared_dir
from perank.model.prompts import PromptBuilder
from perank.ranking.windows import Windows
from perank.records import Candidates
from perank.reporting.rows import ResultRow, read_results_csv, write_results_csv
from perank.sources.candidates import make_candidates
from perank.sources.trec import TrecCollection

HERE = Path(__file__).parent
PAPER = tuple(read_results_csv(HERE / "paper.csv"))
Lengths = Callable[[Candidates, int], Mapping[str, int]]
"""(a query's candidates, how many of them) -> tokens of one prompt, by the way of counting."""


class _Controls(MistralV1):
    """The same pieces with `[INST]` and `[/INST]` as control tokens, as in Mistral's later tokenizers."""

    def __init__(self, tokenizer: MistralV1) -> None:
        self.__dict__.update(tokenizer.__dict__)
        self.all_special_tokens = [*tokenizer.all_special_tokens, "[INST]", "[/INST]"]


def perank_lengths(tokenizer: MistralV1) -> Lengths:
    """As the authors run it, and departures from it that a count by hand may take."""
    builders = {
        "as run": PromptBuilder(tokenizer, "reference"),
        "[INST] and [/INST] as one token each": PromptBuilder(_Controls(tokenizer), "reference"),
        "the prompt as printed in Table 8": PromptBuilder(tokenizer, "paper"),
    }
    opening, closing = (len(tokenizer(mark)["input_ids"]) for mark in ("[INST]", "[/INST]"))

    def lengths(candidates: Candidates, n: int) -> dict[str, int]:
        found = {way: len(builder.rank(candidates.query.text, n)) for way, builder in builders.items()}
        whole = found["as run"]
        return found | {
            "without <s>[INST] in front": whole - 1 - opening,
            "without [/INST] behind": whole - closing,
            "without <s>": whole - 1,
            "without the blank lines before [/INST]": whole - 2,
        }

    return lengths


def rankmistral_lengths(tokenizer: MistralV1) -> Lengths:
    """Prompts with the texts of the first candidates."""
    return lambda candidates, n: rankmistral.lengths(
        tokenizer, candidates.query.text, [passage.text for passage in candidates.passages[:n]]
    )


def means(candidates: Sequence[Candidates], lengths: Lengths, sizes: Sequence[int]) -> dict[str, float]:
    """Tokens processed in windows of these sizes, means over the queries, by the way of counting."""
    totals: list[Counter[str]] = []
    for query in candidates:
        by_size = {n: lengths(query, n) for n in set(sizes)}
        totals.append(Counter())
        for n in sizes:
            totals[-1].update(by_size[n])
    return {way: fmean(total[way] for total in totals) for way in totals[0]}


def measured(tokenizer: MistralV1, candidates: Sequence[Candidates]) -> Iterator[ResultRow]:
    """Our counts for every figure in paper.csv."""
    systems = {"PE-Rank": perank_lengths(tokenizer), "RankMistral": rankmistral_lengths(tokenizer)}
    for published in PAPER:
        spans = Windows(published.window or 1, published.step or 1).plan(published.candidates or 0)
        sizes = [span.stop - span.start for span in spans]
        labels: dict[str, Any] = {
            name: getattr(published, name)
            for name in ("study", "scale", "system", "first_stage", "candidates", "window", "step", "collection")
        }
        found = {"as run": float(sum(sizes))}
        if published.metric == "tokens_processed":
            found = means(candidates, systems[published.system], sizes)
        for way, value in found.items():
            yield ResultRow(**labels, variant=way, metric=published.metric, value=value, n_queries=len(candidates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, default=find_model(), help="tokenizer.model.v1 of mistral-common")
    parser.add_argument("--collection", type=Path, default=shared_dir() / "collections" / "trecdl" / "dl19")
    arguments = parser.parse_args()
    if arguments.tokenizer is None:
        raise BadInput("Mistral's first tokenizer isn't here", remedy=f"see {HERE / 'README.md'}")
    tokenizer = MistralV1(arguments.tokenizer)
    candidates = bm25_candidates(arguments.collection)
    rows = list(measured(tokenizer, candidates))
    write_results_csv(HERE / "results.csv", rows)
    queries = [query.query.text for query in candidates]
    write_ledger(HERE / "ledger.csv", PromptBuilder(tokenizer, "reference"), queries, (20, 40, 100))
    for row in rows:
        paper = paper_value(row)
        print(
            f"{row.system:12} {row.candidates:4} candidates, {row.window:3}/{row.step:<3} {row.metric:16} "
            f"{row.variant:40} {row.value:9.2f}  paper {paper:8.1f}  {row.value - paper:+.2f}"
        )
    print((HERE / "ledger.csv").read_text(encoding="utf-8"))


def bm25_candidates(folder: Path) -> list[Candidates]:
    """The first hundred BM25 candidates of every query."""
    collection = TrecCollection(folder)
    return make_candidates(collection, collection.runs["bm25"], 100)


def paper_value(row: ResultRow) -> float:
    """The published figure that a row of ours is about."""
    same = ("system", "candidates", "window", "step", "metric")
    return next(p.value for p in PAPER if all(getattr(p, name) == getattr(row, name) for name in same))


if __name__ == "__main__":
    exits_cleanly(main)()
