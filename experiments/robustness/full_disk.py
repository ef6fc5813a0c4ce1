"""Train on a disk that is too small, make it larger, resume, and compare with a run that always had room.

    sudo python experiments/robustness/full_disk.py        # mounts a small tmpfs of its own; needs the right to

Prints what the command said and left on the full disk, and whether the weights are equal in the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    """Fill up, enlarge, resume, compare."""
    from perank.train import main as train
    from support import toy

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PERANK_CACHE"] = f"{folder}/cache"
        world = toy.make_world(Path(folder) / "world")
        disk, whole = Path(folder) / "disk", Path(folder) / "whole"
        keep = ["data.rows=160", "callbacks.checkpoint.every_n_train_steps=5", "callbacks.checkpoint.save_top_k=-1"]
        arguments = [*toy.overrides(world), *keep]
        disk.mkdir()
        mount("-t", "tmpfs", "-o", "size=220k", "tmpfs", str(disk))
        try:
            code = toy.command(train, *arguments, f"hydra.run.dir={disk}/run")
            left = sorted(path.name for path in (disk / "run").rglob("*") if path.is_file())
            print(f"full disk: exit code {code}, left: {', '.join(left)}")
            mount("-o", "remount,size=50m", str(disk))
            code = toy.command(train, *arguments, f"hydra.run.dir={disk}/run", f"ckpt_path={disk}/run")
            weights = toy.weights(disk / "run")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        print(f"more room, resumed: exit code {code}, weights {weights[:16]}")
        toy.command(train, *arguments, f"hydra.run.dir={whole}")
        print(f"never full: weights {toy.weights(whole)[:16]}")
        sys.exit(0 if weights == toy.weights(whole) else 1)


def mount(*arguments: str) -> None:
    """Call mount."""
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main()
