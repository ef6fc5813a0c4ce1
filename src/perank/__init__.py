"""perank: train, evaluate and use PE-Rank, a listwise reranker that reads one embedding per passage.

>>> from perank import Reranker
>>> print(Reranker().rank("how to join two lists", ["Open a file.", "Concatenate two sequences."]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perank.ranking.reranker import Reranker

__all__ = ["Reranker", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `Reranker` on first use, so that `import perank` loads neither torch nor transformers."""
    if name == "Reranker":
        from perank.ranking.reranker import Reranker

        return Reranker
    raise AttributeError(f"module 'perank' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List names for completion, including `Reranker` before it is imported."""
    return sorted({*globals(), *__all__})
