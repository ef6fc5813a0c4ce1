"""Metrics against trec_eval's own outputs, and the t-test against the published one.

    python experiments/parity/trec_eval.py        # half a minute; prints the table, writes trec_eval.csv

It reads `collections/metrics/trec_eval-tests` under `PERANK_SHARED`: qrels, a run, and what trec_eval printed with
different options. Values count as equal where they print the same four decimals, for every query and their mean.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from perank.evaluation.metrics import means, measure  # noqa: E402
from perank.evaluation.significance import TTest, paired_t_test  # noqa: E402
from perank.files import atomic_write, shared_dir  # noqa: E402
from perank.sources.trec import read_qrels, read_run  # noqa: E402
from support.trec_eval_output import OUTPUTS, best_100, our_name, shortened, trec_eval_output  # noqa: E402

MISTRAL = "fullrank__dl19__RankMistral100_top100_passnum=1.txt"
VICUNA = "BM25__output_v2_aug_vicuna_7b_4096_100_PromptMode.RANK_GPT_dl19_2023-09-13T163610.051205.txt"
Row = tuple[str, str, str, str, str, int, int]


def main() -> None:
    """Compare, print, write."""
    rows = list(compared(shared_dir() / "collections/metrics/trec_eval-tests"))
    for row in rows:
        print("{:<12} {:<14} {:<14} {:>8} {:>8} {:>4} of {} values equal".format(*row))
    with atomic_write(Path(__file__).with_name("trec_eval.csv")) as file:
        for row in [("output", "trec_eval", "perank", "theirs", "ours", "equal", "values"), *rows]:
            file.write(",".join(map(str, row)) + "\n")
    test = t_test()
    print(f"RankMistral100 against RankVicuna, DL19, ndcg@10: t = {test.t:.4f}, df {test.df}, p = {test.p:.5f}")
    equal, values = (sum(row[column] for row in rows) for column in (5, 6))  # type: ignore[misc]
    print(f"{equal} of {values} values of {len({row[1] for row in rows})} measures equal to 4 decimals")
    sys.exit(0 if equal == values else 1)


def compared(folder: Path) -> Iterator[Row]:
    """(output, trec_eval's measure, ours, their mean, our mean, values that are equal, values)."""
    qrels, whole = read_qrels(folder / "qrels.test"), read_run(folder / "results.test")
    for output, complete in OUTPUTS.items():
        expected = trec_eval_output(folder / f"out.test.{output}")
        run = shortened(whole, trec_eval_output(folder / "out.test.aqc")) if complete else whole
        run = best_100(run) if output.endswith("M") else run
        names = {name: ours for name, _ in expected if (ours := our_name(name))}
        scores = measure(qrels, run, list(names.values()), complete=complete)
        for name, ours in names.items():
            mean = means({ours: scores[ours]})[ours]
            found = {"all": mean, **scores[ours]}
            equal = sum(f"{value:.4f}" == expected[name, id] for id, value in found.items())
            yield output, name, ours, expected[name, "all"], f"{mean:.4f}", equal, len(found)


def t_test() -> TTest:
    """The paired test whose figures are published."""
    collections = shared_dir() / "collections"
    qrels = read_qrels(collections / "trecdl/dl19/qrels.txt")
    first, second = (
        measure(qrels, read_run(collections / "runs" / name), ["ndcg@10"])["ndcg@10"] for name in (MISTRAL, VICUNA)
    )
    return paired_t_test(first, second)


if __name__ == "__main__":
    main()
