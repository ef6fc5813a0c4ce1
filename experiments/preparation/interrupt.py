"""Build training sets on real local files, kill the builders with SIGKILL again and again, and compare the bytes.

    python experiments/preparation/interrupt.py --kills 5 --seed 0

NFCorpus' training queries (dense top 20, the encoder as teacher) and Wikipedia passages of nq-open-oracle, written in
Atlas' and in DPR's form: small files through the code that builds MS MARCO's and Wikipedia's sets. Every set is built
once in peace, then by a process that is killed as soon as it has left a few more parts, and started again with the same
command until it ends by itself. Processes are forked from one that has imported the libraries.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from perank.files import read_json, sha256, shared_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.forked import fork

NFCORPUS = ["collection=nfcorpus", "preparation.block=64", "preparation.max_tokens=8192"]


def main() -> None:
    """Parse, build, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=None, help="queries of NFCorpus (all: 2,590)")
    parser.add_argument("--encoder", default="wordllama")
    options = parser.parse_args()
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        for name, file, overrides in sets(Path(folder), options.encoder, options.limit):
            equal &= report(Path(folder), name, file, overrides, options.kills, random.Random(options.seed))
    sys.exit(0 if equal else 1)


def sets(folder: Path, encoder: str, limit: int | None) -> Iterator[tuple[str, str, list[str]]]:
    """(name, the set's file name, what builds it)."""
    import torch

    import perank.prepare  # noqa: F401 - before forking

    torch.set_num_threads(1)
    few = [] if limit is None else [f"preparation.limit={limit}"]
    yield "NFCorpus, ranking rows", "nfcorpus.rows.jsonl", [*NFCORPUS, f"encoder={encoder}", *few]
    for path in wikipedia(folder):
        sampled = ["preparation=wikipedia", f"preparation.source={path}", "preparation.rows=1000"]
        yield f"Wikipedia, {path.name}", "corpus.jsonl", [*sampled, "preparation.chunk=100"]


def wikipedia(folder: Path) -> list[Path]:
    """The passages of nq-open-oracle as Atlas and as DPR write theirs."""
    source = shared_dir() / "collections" / "train" / "wiki-nqopen-oracle" / "nq-open-oracle.jsonl.gz"
    with gzip.open(source, "rt", encoding="utf-8") as file:
        found = dict.fromkeys(
            (c["title"], " ".join(c["text"].split())) for line in file for c in json.loads(line)["ctxs"]
        )
    atlas, dpr = folder / "text-list-100-sec.jsonl", folder / "psgs_w100.tsv"
    with atlas.open("w", encoding="utf-8") as lines, dpr.open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(["id", "text", "title"])
        for number, (title, text) in enumerate(found):
            lines.write(json.dumps({"id": str(number), "title": title, "section": "", "text": text}) + "\n")
            writer.writerow([number, text, title])
    return [atlas, dpr]


def report(folder: Path, name: str, file: str, overrides: list[str], kills: int, dice: random.Random) -> bool:
    """Build one set both ways and print what came of it; whether the bytes are equal."""
    whole, killed = folder / name / "whole" / file, folder / name / "killed" / file
    began = time.monotonic()
    assert run_to_end(whole, overrides) == 0
    seconds = time.monotonic() - began
    struck = []
    while len(struck) < kills and (parts := kill(killed, overrides, dice)) is not None:
        struck.append(parts)
    assert run_to_end(killed, overrides) == 0
    same = sha256(whole) == sha256(killed)
    numbers = read_json(whole.with_name(f"{file}.manifest.json"))["statistics"]
    print(f"{name}: {seconds:.1f} s in peace; {len(struck)} kills, after {', '.join(map(str, struck))} parts")
    print(f"  {json.dumps(numbers)}")
    print(f"  {sha256(whole)[:16]} in peace, {sha256(killed)[:16]} killed: {'equal' if same else 'DIFFERENT'}")
    return same


def kill(output: Path, overrides: list[str], dice: random.Random) -> int | None:
    """Start, and kill when some more parts are there, or in the middle of the next; how many there were."""
    child = fork(lambda: build(output, overrides))
    enough = count(output) + dice.randint(1, 4)
    while count(output) < enough and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.002)
    time.sleep(dice.uniform(0, 0.05))
    parts = count(output)
    os.kill(child, signal.SIGKILL)
    return parts if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else None


def count(output: Path) -> int:
    """Whole parts beside an output."""
    return sum(1 for path in output.parent.glob(f".{output.name}.*/*") if not path.name.endswith(".part"))


def run_to_end(output: Path, overrides: list[str]) -> int:
    """The exit code of a build that nobody disturbs."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(lambda: build(output, overrides)), 0)[1])


def build(output: Path, overrides: list[str]) -> None:
    """`perank-prepare`; what it prints goes beside the output."""
    from perank.prepare import main as prepare

    output.parent.mkdir(parents=True, exist_ok=True)
    with (output.parent / "log.txt").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    folder = f'hydra.run.dir="{output.parent}/log"'
    sys.argv = ["perank-prepare", *overrides, f'preparation.output="{output}"', "device=cpu", folder]
    prepare()


if __name__ == "__main__":
    main()
