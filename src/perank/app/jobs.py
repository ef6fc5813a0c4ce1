"""Run entry points under Hydra: composition errors become `BadInput`, and a sweep continues after a failed job.

Hydra ends every error with exit code 1. Here errors pass through it, so bad input gives exit code 2 and bugs keep their
traceback. A failed job writes failed.json to its folder; a sweep lists its failed jobs at the end.
"""

from __future__ import annotations

import errno
import inspect
import logging
import math
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perank.app.commands.again import as_it_was_meant, as_text
from perank.app.commands.renamed import check_overrides
from perank.app.schema import SCHEMAS
from perank.app.settings import check_config, check_type
from perank.errors import BadInput
from perank.files import CONF_DIR, read_json, write_json

FAILED = "failed.json"
_NOT_ABOUT_THE_RUN = ("💡 Tip:", "TPU available: False", "Loading `train_dataloader` to estimate")
_OF_PATHS = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}
_DISTRIBUTED = {"LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_PORT"}


def run(config_name: str, task: Callable[[DictConfig], Any]) -> None:
    """Compose `config_name` with the command line and run `task`: once, or for every job of a sweep.

    Raises `BadInput` if the config doesn't compose, violates its schema or needs something unavailable. After a sweep,
    raises the first error of its jobs that isn't `BadInput`, else `BadInput` if jobs failed.
    """
    if {"--help", "-h"} & set(sys.argv[1:]):  # the module's docstring before Hydra's list of groups
        sys.stdout.write(f"{inspect.getdoc(sys.modules[task.__module__])}\n\n")
    failed: dict[str, Exception] = {}
    own = os.getpid()

    def job(config: DictConfig) -> Any:
        output = OmegaConf.select(config, "paths.output")
        check_type(output, str, "paths.output")
        folder = Path(output)
        (folder / FAILED).unlink(missing_ok=True)
        try:
            with bad_input():
                _expand_home(config)
                check_config(SCHEMAS[config_name], config)
                return task(config)
        except Exception as error:
            _note(folder, error)
            if not sweeping() or os.getpid() != own:
                raise  # a multi-process launcher re-raises it after all jobs
            sys.stderr.write(f"perank: job {folder} failed, the sweep continues: {error}\n")
            failed[str(folder)] = error
            return math.nan  # optimising sweepers treat NaN as a failed trial

    check_overrides(sys.argv[1:])
    with _hydras_errors(), bad_input(), _errors_come_out():
        hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=config_name)(job)()
    for error in failed.values():
        if not isinstance(error, BadInput):
            raise error
    if failed:
        problem = f"{len(failed)} of the sweep's jobs failed: {', '.join(failed)}"
        raise BadInput(problem, remedy=f"see {FAILED} in their folders; the other jobs are complete")


def sweeping() -> bool:
    """Whether this is one of a sweep's jobs."""
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def in_own_process(module: str, folder: Path, overrides: Sequence[str] | None = None) -> None:
    """Run `python -m <module>` with output to `folder`, with `overrides` (by default those of the current job).

    Raises `BadInput` if the process ended with one, `RuntimeError` for other failures.
    """
    asked = list(HydraConfig.get().overrides.task) if overrides is None else overrides
    command = [sys.executable, "-m", module, *asked, f"hydra.run.dir={as_text(str(folder))}"]
    ended = subprocess.run(command, env=_alone(), check=False)
    if ended.returncode == 2 and (folder / FAILED).is_file():
        raise BadInput(read_json(folder / FAILED)["message"], remedy="fix it and run this job again")
    if ended.returncode != 0:
        raise RuntimeError(f"the job's process ended with code {ended.returncode}; see its output above")


def _alone() -> dict[str, str]:
    """Return the environment without the variables of distributed training."""
    return {name: value for name, value in os.environ.items() if name not in _DISTRIBUTED}


@contextmanager
def bad_input() -> Iterator[None]:
    """Convert errors that are caused by the config or the file system to `BadInput`."""
    try:
        yield
    except InstantiationException:
        raise  # `perank.app.settings.instantiate` already converted those that the config causes
    except (CompactHydraException, OmegaConfBaseException) as error:
        assembly = [str(error).partition("Config search path")[0]]
        if isinstance(error.__cause__, OmegaConfBaseException):
            assembly.append(str(error.__cause__))
        if isinstance(error, OverrideParseException):
            assembly.insert(0, f"{error.override}:")
        said = " ".join(" ".join(assembly).split())
        raise BadInput(said, remedy=_remedy(error)) from error
    except ValueError as error:
        if not str(error).startswith("Config group override"):  # Hydra's message for `group=null`
            raise
        raise BadInput(str(error), remedy="name one of the group's choices in conf/") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space, then resume with ckpt_path"
            raise BadInput("no space left on the disk", remedy=remedy, path=error.filename) from error
        if error.errno not in _OF_PATHS or error.filename is None:
            raise
        problem = f"can't be used: {error.strerror}"
        raise BadInput(problem, remedy="check the path and its permissions", path=error.filename) from error


def _remedy(error: Exception) -> str:
    ambiguous = re.search(r"Ambiguous value for argument '(.*)'\n", str(error))
    override = error.override if isinstance(error, OverrideParseException) else ambiguous[1] if ambiguous else ""
    meant = as_it_was_meant(override)
    return f"if the value is a text, quote it: {meant}" if meant else "see the composed config with --cfg job"


def _expand_home(node: Any) -> None:
    """Replace ~/ at the beginning of every text of a config by the user's folder."""
    for key in node if OmegaConf.is_dict(node) else range(len(node)):
        value: Any = None if OmegaConf.is_missing(node, key) else node._get_node(key)
        if value is None or value._is_none():
            continue
        if OmegaConf.is_config(value):
            _expand_home(value)
        elif isinstance(text := value._value(), str) and text.startswith("~/"):
            node[key] = os.path.expanduser(text)  # noqa: PTH111 - as it is where there is no home


def quiet_lightning() -> None:
    """Remove Lightning's duplicate log lines and its advertisements; call it before a Trainer is created.

    Lightning adds a handler to its logger on import, and its records also reach Hydra's handlers.
    """
    import lightning

    if logging.getLogger().hasHandlers():
        logging.getLogger(lightning.__name__).handlers.clear()
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}.utilities.rank_zero").addFilter(_about_the_run)


def _about_the_run(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOT_ABOUT_THE_RUN)


@contextmanager
def _hydras_errors() -> Iterator[None]:
    """Convert what Hydra raises by itself, such as for flags that exclude each other, to `BadInput`."""
    try:
        yield
    except SystemExit as end:  # after a message
        raise SystemExit(2) if end.code == 1 and _by_hydra(end) else end from None
    except Exception as error:
        if isinstance(error, BadInput) or not _by_hydra(error):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".partition(", set env var HYDRA")[0].split())
        remedy = "--hydra-help lists Hydra's own options, --cfg hydra shows its settings"
        raise BadInput(f"Hydra can't use this command line: {said}", remedy=remedy) from error


def _by_hydra(error: BaseException) -> bool:
    """Whether only Hydra and the standard library were running, neither perank nor a launcher's process."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    first = next((i for i, file in enumerate(files) if "hydra" in file.parts), len(files))
    return first < len(files) and all(
        {"hydra", "omegaconf"} & set(file.parts) or not {"site-packages", "perank"} & set(file.parts)
        for file in files[first:]
    )


@contextmanager
def _errors_come_out() -> Iterator[None]:
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def _note(folder: Path, error: Exception) -> None:
    trace = "" if isinstance(error, BadInput) else "".join(traceback.format_exception(error))
    with suppress(OSError, BadInput):  # the disk may be what failed
        write_json(folder / FAILED, {"error": type(error).__name__, "message": str(error), "traceback": trace})
