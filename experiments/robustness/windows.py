"""Random window configurations and rankers through `perank.ranking.windows`, against a second implementation.

    python experiments/robustness/windows.py --write      # 1,000,000 configurations in about two minutes; windows.csv

For each: nothing lost or doubled, every candidate seen, the last window at the top, no window larger than asked for,
whole rankings equal to brute force, and the first k ranks equal to it where every window returns garbage below the
depth that the rule gives it.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    """Draw, check, say how many."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write windows.csv")
    options = parser.parse_args()
    began = time.monotonic()
    windows, different = checked(options.configurations, options.seed)
    print(
        f"{options.configurations:,} configurations ({different:,} different), {windows:,} windows ranked: "
        f"always a permutation, the first k ranks always those of brute force ({time.monotonic() - began:.0f} s)"
    )
    if options.write:
        from written import write_table

        header = ("configurations", "different", "windows_ranked", "broken_promises", "seed")
        write_table("windows", header, [(options.configurations, different, windows, 0, options.seed)])


def checked(count: int, seed: int) -> tuple[int, int]:
    """(windows ranked, configurations that differ). Raises `AssertionError` at the first broken promise."""
    from support.ranker_promises import check

    dice, windows, seen = random.Random(seed), 0, set[tuple[int, int, int, int]]()
    for number in range(count):
        w = dice.randint(1, 24)
        configuration = (dice.randint(0, 60), w, dice.randint(max(1, w // 4), w), dice.randint(1, 70))
        try:
            windows += check(*configuration, seed=number)
        except AssertionError as error:
            raise AssertionError("candidates, window, step, cutoff: {}, {}, {}, {}".format(*configuration)) from error
        seen.add(configuration)
    return windows, len(seen)


if __name__ == "__main__":
    main()
