"""Seconds from an empty Python to the first ranking: import, load, rank, with a full cache and with an empty one.

The best of several processes each, as wall seconds and as processor seconds. Which modules the first part is:
`python -X importtime -c "from perank import Reranker"`.

    python benchmarks/first_ranking.py [times=5]        # about a minute
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

CODE = """
import json, time
laps = [(time.perf_counter(), time.process_time())]
lap = lambda: laps.append((time.perf_counter(), time.process_time()))
from perank import Reranker
lap()
reranker = Reranker()
lap()
reranker.rank("how to join two lists", ["Open a file.", "Sort a list in place.", "Concatenate two lists into one."])
lap()
print(json.dumps([[b - a for a, b in zip(one, two)] for one, two in zip(laps, laps[1:])]))
"""


def measured(times: int, *, empty: bool) -> list[list[float]]:
    """[import, load, rank] x [wall, processor] seconds, the least of each; with an empty cache or the user's own."""
    found, command = [], [sys.executable, "-c", CODE]
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            own = {"PERANK_CACHE": folder} if empty else {}
            ran = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=True)
        found.append(json.loads(ran.stdout))
    return [[min(run[part][kind] for run in found) for kind in (0, 1)] for part in range(3)]


def main() -> None:
    options = dict(argument.split("=") for argument in sys.argv[1:])
    times = int(options.get("times", 5))
    measured(1, empty=False)  # fills the cache
    for empty in (False, True):
        named = zip(("import", "load", "rank"), measured(times, empty=empty), strict=True)
        shown = ", ".join(f"{part} {wall:.2f} ({cpu:.2f})" for part, (wall, cpu) in named)
        print(f"{'empty' if empty else 'full'} cache: {shown} s, wall (processor), best of {times}")


if __name__ == "__main__":
    main()
