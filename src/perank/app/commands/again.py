"""Command lines to copy: overrides quoted for Hydra and the shell, and the command that evaluates a run again."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def quoted(key: str, value: str) -> str:
    """Return `key='value'` as Hydra reads any text, quoted for a shell."""
    text = f"{key}={as_text(value)}"
    return shlex.quote(text) if set(text) & set('"$`!\\') else f'"{text}"'


def as_text(value: str) -> str:
    """Return any text as a value of Hydra's grammar: in quotes, with quotes and the backslashes before them escaped."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"'{escaped}'"


def as_it_was_meant(override: str) -> str | None:
    """Return an override that Hydra can't parse with its value in quotes; None if that isn't what is wrong."""
    key, equals, value = override.partition("=")
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    try:
        read = OverridesParser.create().parse_override(f"{key}={as_text(value)}").value()
    except HydraException:
        return None
    return quoted(key, value) if equals and read == value else None


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
