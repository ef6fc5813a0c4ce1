"""perank: train, evaluate and use PE-Rank, a listwise reranker that reads one embedding per passage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perank.ranking.reranker import Reranker

__all__ = ["Reranker", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Reranker` when it is asked for: `import perank` alone loads neither torch nor transformers."""
    if name == "Reranker":
        from perank.ranking.reranker import Reranker

        return Reranker
    raise AttributeError(f"module 'perank' has no attribute {name!r}")
