"""The titled Python blocks of a page of docs/."""

from __future__ import annotations

import re

from perank.files import PACKAGE_DIR


def blocks(page: str) -> dict[str, str]:
    """Title -> code."""
    text = (PACKAGE_DIR.parent.parent / "docs" / page).read_text(encoding="utf-8")
    found = dict(re.findall(r'^```python title="(.+?)"\n(.*?)^```', text, re.MULTILINE | re.DOTALL))
    assert found, f"docs/{page} has no titled code"
    return found
