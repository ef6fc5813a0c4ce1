"""What a run prints: every line once, and only lines about the run.

Lightning gives its logger a handler while it is imported, and its records also reach Hydra's handlers (the console and
the run's log file): every line stood there twice. Its advertisements are dropped as well.
"""

from __future__ import annotations

import logging

_NOT_ABOUT_THE_RUN = ("💡 Tip:", "TPU available: False", "Loading `train_dataloader` to estimate")


def quiet_lightning() -> None:
    """Leave Lightning's records to the root logger's handlers, if it has any; call it before a Trainer is made."""
    import lightning

    if logging.getLogger().hasHandlers():
        logging.getLogger(lightning.__name__).handlers.clear()
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}.utilities.rank_zero").addFilter(_about_the_run)


def _about_the_run(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOT_ABOUT_THE_RUN)
