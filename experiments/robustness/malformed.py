"""Feed every reader of perank malformed input and count how it ends.

    python experiments/robustness/malformed.py            # all cases; prints the table and what went wrong
    python experiments/robustness/malformed.py --fuzz 500 # and so many random mutations of each format
    python experiments/robustness/malformed.py --write    # and writes malformed.csv

A case is well refused if it raises `BadInput` that names the file, the line or the id, and a remedy; a command, if it
ends with exit code 2 and one message and leaves no checkpoint, model, metrics or temporary file. Anything else counts
as a traceback or a silent pass.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).resolve().parent)]
KINDS = ("refused", "unnamed", "traceback", "silent")


def main() -> None:
    """Run the cases, print the table, exit with 1 unless all were refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fuzz", type=int, default=0, help="random mutations of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of a reader's name")
    parser.add_argument("--write", action="store_true", help="write malformed.csv")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PERANK_CACHE"] = cache
        counts, wrong = counted(options.only)
    for line in wrong:
        print(line)
    print_table(counts)
    if options.write:
        from written import write_table

        write_table(
            "malformed",
            ("reader", *KINDS),
            [(name, *(found[kind] for kind in KINDS)) for name, found in counts.items()],
        )
    total = sum(counts.values(), Counter[str]())
    named = ", ".join(f"{total[kind]} {kind}" for kind in KINDS)
    print(f"{sum(total.values())} malformed inputs: {named}")
    escaped = fuzzed(options.fuzz, options.seed) if options.fuzz else []
    sys.exit(1 if wrong or escaped else 0)


def counted(only: str) -> tuple[dict[str, Counter[str]], list[str]]:
    """(reader -> how many ended how, a line for each that wasn't well refused)."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    wrong = []
    for reader, name, kind, said in outcomes(only):
        counts[reader][kind] += 1
        if kind != "refused":
            wrong.append(f"{kind.upper()}: {reader}: {name}: {said.strip()[-700:]}")
    return counts, wrong


def outcomes(only: str) -> Iterator[tuple[str, str, str, str]]:
    """(reader, defect, kind, what was said) of each case."""
    import command_cases
    import model_cases
    import reported_cases
    import text_cases
    import vector_cases
    import weight_cases
    from cases import tried

    for module in (text_cases, weight_cases, model_cases, vector_cases, reported_cases):
        for case in module.cases():
            if only in case.reader:
                outcome = tried(case)
                yield case.reader, case.defect, outcome.kind, outcome.said
    for command in command_cases.commands():
        reader = f"command, {command.name.partition(':')[0]}"
        if only in reader:
            with tempfile.TemporaryDirectory() as folder:
                ended = command_cases.run(command, Path(folder))
            kind = next((kind for kind in ("refused", "silent", "traceback") if ended.startswith(kind)), "unnamed")
            yield reader, command.name, kind, ended


def fuzzed(number: int, seed: int) -> list[str]:
    """Print how `number` random mutations of each format ended; those that neither were read nor refused."""
    from mutations import ended

    read, refused, escaped = ended(number, seed)
    total = read + refused + len(escaped)
    print(f"{total} random mutations: {refused} refused, {read} read, {len(escaped)} with another exception")
    print(*escaped, sep="\n", end="\n" if escaped else "")
    return escaped


def print_table(counts: dict[str, Counter[str]]) -> None:
    """One line a reader."""
    width = max(map(len, counts), default=0)
    print(f"{'':<{width}} {'tried':>6} " + " ".join(f"{kind:>10}" for kind in KINDS))
    for reader, found in counts.items():
        print(f"{reader:<{width}} {sum(found.values()):>6} " + " ".join(f"{found[kind]:>10}" for kind in KINDS))


if __name__ == "__main__":
    main()
