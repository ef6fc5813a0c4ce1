"""Write and read checkpoint files atomically, and find the newest one of a run.

Lightning writes a checkpoint to the system's temporary folder and moves it. If that is another disk, the move is a copy
and an interrupted run leaves a partial file. Here the temporary file is written next to the target, synced and renamed.
Files hold only tensors and plain types; nothing else is unpickled.
"""

from __future__ import annotations

import errno
import logging
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import CheckpointIO

from perank.errors import BadInput
from perank.files import atomic_write

log = logging.getLogger(__name__)

_KINDS = {
    "state_dict": dict,
    "global_step": int,
    "loops": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "random_states": list,
}


class AtomicCheckpointIO(CheckpointIO):
    """The trainer's checkpoint plugin (`trainer.plugins`)."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `path`, or leave the existing file untouched. Raises `BadInput` if the disk is full."""
        try:
            with atomic_write(path, "wb") as file:
                torch.save(checkpoint, file)
        except BadInput as error:
            raise _no_space(path) from error
        except RuntimeError as error:  # torch's zip writer wraps the file's error
            if not _ran_out_of_space(error):
                raise
            raise _no_space(path) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return a checkpoint's content. Raises `BadInput` if it can't be read or isn't a trainer checkpoint."""
        return read_checkpoint(path, map_location=map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(
    path: str | Path, *, map_location: Any = "cpu", mmap: bool = False, checksums: bool | None = None
) -> dict[str, Any]:
    """Return a checkpoint's content: tensors and plain types only. Raises `BadInput` for anything else.

    With `mmap`, tensors are read on first access, and checksums are compared only on request.
    """
    checksums = not mmap if checksums is None else checksums
    try:
        content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
        damaged = (
            zipfile.ZipFile(path).testzip() if checksums else None
        )  # torch writes checksums but never compares them
    except FileNotFoundError as error:
        raise BadInput("the checkpoint is missing", remedy="check ckpt_path", path=path) from error
    except Exception as error:  # a damaged file can make torch raise any exception
        said = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise BadInput(f"not a readable checkpoint: {said}", remedy="use an earlier checkpoint", path=path) from error
    if damaged is not None:
        problem = f"damaged: the entry {damaged} has a wrong checksum"
        raise BadInput(problem, remedy="use an earlier checkpoint", path=path)
    found = content if isinstance(content, dict) else {}
    wrong = [key for key, kind in _KINDS.items() if not isinstance(found.get(key), kind) or found[key] == []]
    if wrong:
        problem = f"not a checkpoint of perank.train (keys missing or of the wrong type: {', '.join(wrong)})"
        raise BadInput(problem, remedy="name a file from a run's checkpoints/", path=path)
    return found


def newest_checkpoint(folder: str | Path) -> Path | None:
    """Return the readable checkpoint with the most steps in a run's folder, or None if it has no checkpoints.

    Raises `BadInput` if there are checkpoints but none is readable.
    """
    found = sorted((Path(folder) / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    steps: dict[Path, int] = {}
    for path in found:
        try:
            steps[path] = _step_of(path)
        except BadInput as error:
            log.warning("skipping an unreadable checkpoint: %s", error)
    if found and not steps:
        raise BadInput("none of the checkpoints can be read", remedy="start the run again", path=folder)
    return max(steps, key=steps.__getitem__) if steps else None


def resumed_from(path: str | None, output: Path) -> Path | None:
    """Return the checkpoint that `ckpt_path` names: a file, or the newest readable one in a run's folder.

    The run's own folder `output` may have no checkpoints yet, so the same command starts and resumes a run. Raises
    `BadInput` if another run's folder has no checkpoints.
    """
    if path is None or not Path(path).is_dir() or is_folder_checkpoint(path):
        return None if path is None else Path(path)
    found = newest_checkpoint(path)
    if found is None and Path(path).resolve() != output.resolve():
        raise BadInput("the folder has no checkpoints", remedy="name a run's output folder", path=path)
    log.info("resuming from %s", found) if found else log.info("no checkpoint in %s yet: starting a new run", path)
    return found


def is_folder_checkpoint(path: str | Path) -> bool:
    """Whether this is a complete DeepSpeed checkpoint: `latest` is written last."""
    return (Path(path) / "checkpoint").is_dir() and (Path(path) / "latest").is_file()


def _step_of(path: Path) -> int:
    if path.is_dir():
        if not is_folder_checkpoint(path):
            raise BadInput("not a complete checkpoint folder", remedy="use an earlier checkpoint", path=path)
        return int(path.stem.partition("-")[2])
    return int(read_checkpoint(path, mmap=True)["global_step"])


def model_weights(path: str | Path) -> dict[str, Any]:
    """Return the trained weights in a checkpoint, or in a run's newest one, by the model's own parameter names.

    Raises `BadInput` if the run has no checkpoint.
    """
    file = newest_checkpoint(path) if Path(path).is_dir() else Path(path)
    if file is None:
        raise BadInput("the folder has no checkpoints", remedy="name a run's output folder", path=path)
    content = read_checkpoint(file)["state_dict"]
    return {key.removeprefix("model."): value for key, value in content.items()}


def _ran_out_of_space(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _no_space(path: Any) -> BadInput:
    problem = "no space left on the disk for this checkpoint; earlier checkpoints are intact"
    return BadInput(problem, remedy="free some space, then resume with ckpt_path=<run folder>", path=path)


def random_state(device: torch.device) -> dict[str, Any]:
    """Return a process's random states (torch, its device, numpy, Python) as tensors and plain values.

    Lightning does not restore them mid-epoch. Checkpoints are read with `weights_only=True`, which accepts neither
    numpy arrays nor Python's state tuples.
    """
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=True)
    _, keys, position, has_gauss, cached = numpy
    state = {
        "torch": torch.get_rng_state(),
        "python": {"version": version, "words": torch.tensor(words), "gauss": gauss},
        "numpy": {
            "keys": torch.from_numpy(keys.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the states that `random_state` returned."""
    python, numpy = state["python"], state["numpy"]
    torch.set_rng_state(state["torch"].cpu())
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    keys = numpy["keys"].cpu().numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
