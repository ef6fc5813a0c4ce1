"""The EmbeddingStore at the size of MS MARCO, and killed while it is filled: the slow tests that say so, with figures.

8.8 million vectors of 768 fp16 numbers (the vectors are holes in sparse files; ids and indexes are real): seconds to
open, memory added, milliseconds for 100 random ids. Then 20 SIGKILLs at random moments of encoding, each resumed, and
the bytes compared with those of an uninterrupted run.

    python benchmarks/store.py        # a minute or two, 1 GB of disk
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests" / "retrieval"
CASES = [
    "test_store.py::test_a_store_of_8_8_million_opens_fast_and_small",
    "test_encoding.py::test_killed_at_random_moments_it_goes_on_and_ends_with_the_same_bytes[20]",
]


def main() -> None:
    cases = [str(TESTS / case) for case in CASES]
    ended = subprocess.run([sys.executable, "-m", "pytest", "-q", "-s", "-m", "slow", *cases], check=False)
    raise SystemExit(ended.returncode)


if __name__ == "__main__":
    main()
