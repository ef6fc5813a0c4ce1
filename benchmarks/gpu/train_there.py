"""What `box.py train` starts: perank's own training of the unpacked config, ended by a deadline.

PERANK_BOX=<folder> python benchmarks/gpu/train_there.py <seconds>
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from omegaconf import OmegaConf, open_dict

from perank.errors import exits_cleanly
from perank.train import train


def main() -> None:
    """Train in <PERANK_BOX>/run."""
    config = OmegaConf.load(Path(os.environ["PERANK_BOX"]) / "config.yaml")
    run = Path(os.environ["PERANK_BOX"]) / "run"
    (run / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, run / ".hydra" / "config.yaml")
    with open_dict(config):
        folder = str(run / "checkpoints")
        config.callbacks.deadline = {"_target_": "deadline.Deadline", "seconds": float(sys.argv[1]), "folder": folder}
        config.callbacks.progress = None
    train(config)


if __name__ == "__main__":
    exits_cleanly(main)()
