"""Random command lines for all entry points: each runs, or ends with exit code 2 and one message.

    python experiments/robustness/fuzz_commands.py --examples 2000

Overrides that are good, misspelt, quoted in every way, of another type, or in conflict; flags, files that are missing
or of another kind, Unicode (tests/support/command_lines.py). Commands run in this process on tiny random models.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

ENDINGS = ("ran", "refused", "stopped after 30 s of processor time")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    """Draw, run, count; print a command for each other way that one ended, and exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of an entry point's name")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.raiseExceptions = False  # handlers of streams that a command has closed
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"PERANK_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1"}
        counts = tried(options.examples, options.seed, options.only, Path(folder))
    ended = {how: sum(number for (_, found), number in counts.items() if found == how) for how in ENDINGS}
    others = counts.total() - sum(ended.values())
    named = ", ".join(f"{number} {how}" for how, number in ended.items())
    print(f"{counts.total()} command lines: {named}, {others} with another exception")
    sys.exit(1 if others else 0)


def _share(entry: str) -> int:
    """How much of the examples an entry point gets: less where a good line takes seconds."""
    return 1 if entry in ("train", "evaluate", "efficiency") else 3


def tried(examples: int, seed: int, only: str, folder: Path) -> Counter[tuple[str, str]]:
    """How many command lines of (entry point, how they ended)."""
    from support.command_lines import ENTRIES
    from support.entry_points import make_files

    template = make_files(folder / "template")
    counts: Counter[tuple[str, str]] = Counter()
    entries = sorted((entry for entry in (*ENTRIES, "perank") if only in entry), key=_share, reverse=True)
    units = sum(map(_share, entries))
    for entry in entries:
        for line, ended in endings(entry, examples * _share(entry) // units, seed, template).items():
            counts[entry, ended] += 1
            if ended not in ENDINGS:
                print(f"{line}\n    {ended}")
        print(f"{entry:<12}" + "".join(f"{counts[entry, how]:>6} {how}" for how in ENDINGS), flush=True)
    return counts


def endings(entry: str, examples: int, seed: int, template: Path) -> dict[str, str]:
    """Command line -> how it ended, each in a fresh copy of the files of `template`."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from support.command_lines import command_lines
    from support.entry_points import fresh, outcome

    found: dict[str, str] = {}
    how = {"deadline": None, "database": None, "phases": [Phase.generate], "suppress_health_check": list(HealthCheck)}

    @seeded(seed)
    @settings(max_examples=max(1, examples), **how)  # type: ignore[arg-type]
    @given(arguments=command_lines(entry))
    def runs_or_refuses(arguments: list[str]) -> None:
        line = f"{entry} {shlex.join(arguments)}".encode(errors="backslashreplace").decode()
        if line not in found:  # hypothesis repeats itself
            found[line] = outcome(entry, arguments, fresh(template, template.with_name("example")))

    runs_or_refuses()
    return found


if __name__ == "__main__":
    main()
