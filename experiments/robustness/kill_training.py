"""Kill training with SIGKILL at random moments, finish it, and compare its weights with an unkilled run's.

    python experiments/robustness/kill_training.py --kills 20 --seed 0 --write      # about two minutes; kills.csv

Every run is `perank.train`'s command line in a process of its own, 40 steps on a tiny random LLM with LoRA, dropout
and a checkpoint every second step. Half the moments are uniform over a run's time, start and evaluation included; the
others wait for a random step's checkpoint and strike while the next file is being written. Processes are forked from
one that has imported the libraries already: a kill during imports would prove nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.forked import fork  # noqa: E402 - of the tests

STEPS = 40


@dataclass(frozen=True)
class Kill:
    """One run killed once: when, what it had left behind, and the weights it had in the end.

    `aimed` is the step behind which it was killed in the middle of a file, None for any moment; `steps` are those of
    its newest checkpoint then, 0 for none; `torn` is whether half a file lay there.
    """

    seconds: float
    aimed: int | None
    steps: int
    torn: bool
    weights: str


def main() -> None:
    """Parse, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write kills.csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills, whole, seconds = kill_runs(Path(folder), options.kills, options.seed)
    print(f"unkilled: {seconds:.1f} s, weights {whole[:16]}")
    header = ("kill", "seconds", "moment", "steps_saved", "torn_file_left", "weights_in_the_end")
    rows = [row_of(number, kill) for number, kill in enumerate(kills, start=1)]
    for row in [header, *rows]:
        print("{:>4} {:>8} {:>24} {:>12} {:>15}  {}".format(*row))
    if options.write:
        from written import write_table

        write_table("kills", header, [*rows, (0, f"{seconds:.2f}", "never", "", "", whole[:16])])
    equal = sum(kill.weights == whole for kill in kills)
    print(f"{len(kills)} kills, {equal} final checksums equal to the unkilled run's")
    sys.exit(0 if equal == len(kills) else 1)


def row_of(number: int, kill: Kill) -> tuple[int | str, ...]:
    """A kill as a line of the table."""
    moment = "any" if kill.aimed is None else f"a file after step {kill.aimed}"
    return number, f"{kill.seconds:.2f}", moment, kill.steps, "yes" if kill.torn else "no", kill.weights[:16]


def kill_runs(folder: Path, kills: int, seed: int) -> tuple[list[Kill], str, float]:
    """(each kill, the unkilled run's weights, its seconds)."""
    world = prepared(folder)
    began = time.monotonic()
    finish(world, folder / "whole")
    seconds = time.monotonic() - began
    dice, done = random.Random(seed), list[Kill]()
    while len(done) < kills:
        output, aimed = folder / f"killed-{len(done)}", dice.randrange(0, STEPS, 2) if len(done) % 2 else None
        shutil.rmtree(output, ignore_errors=True)
        if (kill := killed_once(world, output, dice.uniform(0, seconds), aimed)) is not None:
            done.append(kill)
            print(f"\r{len(done)} of {kills}", end="" if len(done) < kills else "\n", file=sys.stderr, flush=True)
    return done, weights_of(folder / "whole"), seconds


def prepared(folder: Path) -> Path:
    """The world, its vectors and rows in the cache, and the libraries in this process."""
    os.environ["PERANK_CACHE"] = str(folder / "cache")
    import torch

    from perank.app.assembly import Assembly  # noqa: F401
    from perank.evaluation.callback import RankingEvaluation  # noqa: F401
    from support import toy

    torch.set_num_threads(1)
    world: Path = toy.make_world(folder / "world")
    finish(world, folder / "warm-up")
    return world


def killed_once(world: Path, output: Path, moment: float, aimed: int | None) -> Kill | None:
    """Kill a run after `moment` seconds, or as `aimed` says, and finish it; None where it had ended by itself."""
    pid, began = fork(lambda: command(world, output)), time.monotonic()
    time.sleep(moment if aimed is None else 0)
    while aimed is not None and not (steps_of(output) >= aimed and unfinished_files(output)):
        time.sleep(0.0001)  # the run may have this core alone
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
    os.kill(pid, signal.SIGKILL)
    seconds = time.monotonic() - began
    if not os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        return None
    steps, torn = steps_of(output), bool(unfinished_files(output))
    finish(world, output)
    return Kill(seconds, aimed, steps, torn, weights_of(output))


def steps_of(output: Path) -> int:
    """The steps of a run's newest checkpoint, 0 where there is none."""
    return max((int(name[5:11]) for name in _names(output / "checkpoints") if name.endswith(".ckpt")), default=0)


def unfinished_files(output: Path) -> list[str]:
    """Temporary files beside a run's checkpoints and results."""
    return [name for folder in (output / "checkpoints", output) for name in _names(folder) if name.endswith(".part")]


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


def finish(world: Path, output: Path) -> None:
    """Run to the end, from wherever the folder has come to."""
    status = os.waitpid(fork(lambda: command(world, output)), 0)[1]
    if status != 0:
        log = output.parent / f"{output.name}.log"
        raise RuntimeError(f"the run ended with status {status}:\n{log.read_text()}")


def command(world: Path, output: Path) -> None:
    """`perank-train`, the same command for a start and for going on; what it prints goes beside its folder."""
    from perank.train import main as train
    from support import toy

    with Path(f"{output}.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    settings = [f"data.rows={4 * STEPS}", "callbacks.checkpoint.every_n_train_steps=2", "backbone.lora.dropout=0.3"]
    folders = [f"hydra.run.dir={output}", f"ckpt_path={output}"]
    sys.argv = ["perank-train", *toy.overrides(world), *settings, *folders]
    train()


def weights_of(output: Path) -> str:
    """SHA-256 of the projector and the adapters a run left."""
    from support import toy

    digest: str = toy.weights(output)
    return digest


if __name__ == "__main__":
    main()
