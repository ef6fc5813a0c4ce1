"""The command line that continues with a run's folder: the present command with `ckpt_path`, quoted for a shell."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig


def quoted(key: str, value: str) -> str:
    """Return `key='value'` as Hydra reads any text, quoted for a shell."""
    escaped = value.replace("\\'", "\\\\'").replace("'", "\\'")
    return shlex.quote(f"{key}='{escaped}'")


def evaluated_again(output: Path) -> tuple[Path, str]:
    """Return the folder of a run's model, and the command that evaluates the model again."""
    model, folder = output / "model", str(output.resolve())
    if not HydraConfig.initialized() or not any((output / "checkpoints").glob("*.ckpt")):
        return model, f"python -m perank.evaluate {quoted('model', str(model))}"
    asked = [each for each in HydraConfig.get().overrides.task if not each.lstrip("+").startswith("ckpt_path=")]
    overrides = [*map(shlex.quote, asked), quoted("ckpt_path", folder), quoted("hydra.run.dir", folder)]
    return model, " ".join(["python -m", _module(), *overrides])


def _module() -> str:
    return f"perank.{HydraConfig.get().job.config_name or Path(sys.argv[0]).stem}"
