"""What the server accepts: sizes, waiting requests, time. Beyond a limit a request gets a 4xx response that says so."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from perank.errors import check_least


def _limit(default: Any, description: str) -> Any:
    return field(default=default, metadata={"help": description})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the server; those in bytes and documents bound its memory. Raises `BadInput` for a limit below 1."""

    max_documents: int = _limit(1000, "documents per request; more: 422")
    max_body_bytes: int = _limit(8 << 20, "bytes per request; more: 413")
    max_seconds: float = _limit(60.0, "seconds from the request to its response; more: 408")
    max_body_seconds: float = _limit(15.0, "seconds that a client may take to send a request; more: 408")
    max_waiting: int = _limit(20_000, "documents of all requests in the server; more: 429")
    max_waiting_bytes: int = _limit(256 << 20, "bytes of all requests in the server; more: 429")
    max_batch: int = _limit(32, "requests that are ranked together")
    batch_wait_ms: float = _limit(2.0, "milliseconds that an idle server waits for further requests to rank together")
    cache_texts: int = _limit(65_536, "texts whose vectors are remembered (1.5 KiB each at width 384)")

    def __post_init__(self) -> None:
        counts = [limit.name for limit in fields(self) if limit.type == "int" and limit.name != "cache_texts"]
        check_least("", 1, **{name: getattr(self, name) for name in counts})
        check_least("", 0, batch_wait_ms=self.batch_wait_ms, cache_texts=self.cache_texts)
        check_least("", 0, max_seconds=self.max_seconds, max_body_seconds=self.max_body_seconds)
