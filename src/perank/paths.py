"""Paths of the Hydra configuration (in a checkout or a wheel), the cache, and the shared test data."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE_DIR = Path(__file__).resolve().parent
_CHECKOUT = PACKAGE_DIR.parent.parent

# A wheel contains conf/ in the package; an editable install uses that of the checkout.
CONF_DIR = PACKAGE_DIR / "conf" if (PACKAGE_DIR / "conf").is_dir() else _CHECKOUT / "conf"


def cache_dir() -> Path:
    """Return the folder for recomputable files (weights, indexes, vectors): `PERANK_CACHE`, else ~/.cache/perank."""
    return Path(os.environ.get("PERANK_CACHE") or Path.home() / ".cache" / "perank")


def shared_dir() -> Path:
    """Return the folder with `collections/` and `fixtures/`: `PERANK_SHARED`, else `shared` next to the checkout."""
    return Path(os.environ.get("PERANK_SHARED") or _CHECKOUT.parent / "shared")
