"""Prometheus metrics of one server. This file alone imports prometheus_client."""

from __future__ import annotations

from collections.abc import Callable

from perank.records import Bill


class Metrics:
    """Counters of requests, documents, tokens and the cache; histograms of seconds and batch sizes; gauges."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = registry = CollectorRegistry()
        self._responses = Counter("perank_responses", "Responses", ["route", "status"], registry=registry)
        self._seconds = Histogram("perank_seconds", "Seconds to the response", ["route"], registry=registry)
        self._documents = Counter("perank_documents", "Documents ranked", registry=registry)
        self._tokens = Counter("perank_tokens", "Tokens of the LLM", ["kind"], registry=registry)
        self._texts = Counter("perank_texts", "Texts, by cache hit or miss", ["cache"], registry=registry)
        sizes = (1, 2, 4, 8, 16, 32, 64)
        self._batches = Histogram("perank_batch_requests", "Requests per batch", buckets=sizes, registry=registry)
        self._waiting = Gauge("perank_waiting_documents", "Documents of requests in the server", registry=registry)
        self._cached = Gauge("perank_cached_texts", "Texts whose vectors are remembered", registry=registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a response; `route` is a known path, never a client's text."""
        self._responses.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def ranked(self, documents: int, bill: Bill) -> None:
        """Count a ranking."""
        self._documents.inc(documents)
        self._tokens.labels("processed").inc(bill.tokens_processed)
        self._tokens.labels("generated").inc(bill.tokens_generated)

    def looked_up(self, known: int, encoded: int) -> None:
        """Count texts."""
        self._texts.labels("hit").inc(known)
        self._texts.labels("miss").inc(encoded)

    def batch(self, requests: int) -> None:
        """Count a batch of windows."""
        self._batches.observe(requests)

    def watch(self, waiting: Callable[[], float], cached: Callable[[], float]) -> None:
        """Read the gauges from these functions."""
        self._waiting.set_function(waiting)
        self._cached.set_function(cached)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
