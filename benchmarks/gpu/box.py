"""Train the packaged model's recipe on a machine without a network, in parts that travel.

Here: `pack` writes one archive (composed config, collections as BEIR folders, wheels) in pieces of at most 40 MB.
There: `receive` keeps the pieces of each call, `train` unpacks them, trains until the budget is spent and writes a
snapshot in pieces of at most 13 MB; the same command resumes. `restore` makes a run of a snapshot, here or there.

    python benchmarks/gpu/box.py pack --recipe box --wheels <folder> --parts .parts
    python benchmarks/gpu/box.py receive --parts <carried folder> --work <folder>
    python benchmarks/gpu/box.py train --work <folder> --snapshot <folder> --into box.csv
    python benchmarks/gpu/box.py restore --snapshot <folder> --work <folder>
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import parcels
from session import Session, parser

from perank.errors import TERMINATED, exits_cleanly

PIECE, RESERVE = 40_000_000, 90.0  # bytes; seconds of the budget for reading, saving and the snapshot


def main() -> None:
    """Run one of the commands."""
    options = parser(__doc__)
    options.add_argument("command", choices=["pack", "receive", "train", "restore"])
    options.add_argument("--recipe", default="box", help="an experiment of perank.train")
    options.add_argument("--wheels", type=Path, help="a folder of wheels to install there")
    options.add_argument("--parts", type=Path, help="the folder of pieces")
    options.add_argument("--work", type=Path, help="the folder in which pieces, data and the run are kept")
    options.add_argument("--snapshot", type=Path, help="the folder of a snapshot's pieces")
    options.add_argument("--seconds", type=float, help="of training (default: what the budget leaves)")
    chosen, overrides = options.parse_known_args()
    if chosen.smoke:
        overrides = [*overrides, "trainer.accelerator=cpu", "trainer.precision=null", "encoder.device=cpu"]
    {"pack": pack, "receive": receive, "train": train, "restore": restore}[chosen.command](chosen, overrides)


def pack(chosen: argparse.Namespace, overrides: list[str]) -> None:
    """Compose the recipe for a GPU (further arguments are overrides) and write the archive's pieces."""
    from travelling_config import travelling_config

    with TemporaryDirectory() as temporary:
        box = Path(temporary) / "box"
        box.mkdir()
        travelling_config(chosen.recipe, ["trainer=gpu", "encoder.device=cuda", *overrides], box)
        if chosen.wheels is not None:
            copytree(chosen.wheels, box / "wheels")
        archive = Path(temporary) / "box.tar.gz"
        with tarfile.open(archive, "w:gz") as file:
            file.add(box, "box")
        for piece in parcels.split(archive, chosen.parts, PIECE):
            print(f"{piece}: {piece.stat().st_size:,} bytes; carry it with {parcels.MANIFEST}")


def receive(chosen: argparse.Namespace, _: list[str]) -> None:
    """Keep the pieces that were carried this time."""
    missing = parcels.receive(chosen.parts, chosen.work / "parts")
    print(f"missing: {', '.join(missing)}" if missing else "all pieces are here")


def train(chosen: argparse.Namespace, _: list[str]) -> None:
    """Train or resume until the budget is spent, and write the snapshot."""
    box = unpacked(chosen.work)
    with Session(chosen, study="gpu_box", variant=chosen.recipe) as session:
        seconds = max(0.0, session.budget - RESERVE) if chosen.seconds is None else chosen.seconds
        environment = {"PERANK_BOX": str(box), "PERANK_CACHE": str(chosen.work / "cache")}
        path = os.pathsep.join([str(chosen.work / "site"), *sys.path])
        command = [sys.executable, str(Path(__file__).with_name("train_there.py")), str(seconds)]
        code = subprocess.run(command, env={**os.environ, **environment, "PYTHONPATH": path}, check=False).returncode
        if code not in (0, TERMINATED, -15):
            raise SystemExit(code)
        session.add("PE-Rank", "finished", float(code == 0))
        if chosen.snapshot is not None:
            import snapshot

            pieces = snapshot.save(box / "run", chosen.snapshot)
            session.add("PE-Rank", "snapshot_bytes", sum(piece.stat().st_size for piece in pieces))
            session.add("PE-Rank", "steps", int(pieces[0].name.split("-")[1].split(".")[0]))


def restore(chosen: argparse.Namespace, _: list[str]) -> None:
    """Make a run of a snapshot, which `train` resumes and experiments/box reads."""
    import snapshot

    print(snapshot.restore(chosen.snapshot, chosen.work / "box" / "run"))


def unpacked(work: Path) -> Path:
    """The archive's folder, unpacked once, with its wheels installed into <work>/site."""
    box = work / "box"
    if not (box / "config.yaml").is_file():
        with tarfile.open(parcels.join(work / "parts", work)) as file:
            file.extractall(work, filter="data")
        wheels = sorted(map(str, (box / "wheels").glob("*.whl")))
        if wheels:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
            subprocess.run([*pip, "--target", str(work / "site"), *wheels], check=True)
    return box


if __name__ == "__main__":
    exits_cleanly(main)()
