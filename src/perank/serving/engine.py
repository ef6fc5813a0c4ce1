"""Rank requests of many clients together, in one thread that owns the model.

Requests join and leave between windows: a batch holds the current windows of all requests in progress, so a short one
doesn't wait for a long one. The event loop only passes requests to the thread and awaits futures.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread

from torch import Tensor

from perank.errors import BadInput
from perank.ranking.reranker import EmbeddedQuery, Reranker
from perank.records import Bill, Candidates, Query, Ranking
from perank.serving.embedding import Embedding, RankRequest
from perank.serving.limits import Limits
from perank.serving.metrics import Metrics

log = logging.getLogger(__name__)
_TEXTS_AT_ONCE = 256  # requests in progress wait while this many texts are encoded


class Busy(Exception):
    """Too many documents are waiting; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is busy: try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(slots=True, eq=False)
class Job:
    """A request, who awaits it, and how far it is; `abandoned` once nobody awaits it any more."""

    request: RankRequest
    future: asyncio.Future[Ranking]
    query: EmbeddedQuery | None = None
    abandoned: bool = False


class Engine:
    """Ranks requests in a thread between `start` and `stop`."""

    def __init__(self, reranker: Reranker, limits: Limits, metrics: Metrics | None = None) -> None:
        self.reranker, self.limits, self.metrics = reranker, limits, metrics or Metrics()
        self.embedding = Embedding(reranker.encoder, reranker.store, limits.cache_texts, self.metrics)
        self.waiting = 0  # documents of accepted requests; only the event loop's thread changes it
        self.accepted = self.answered = 0  # requests
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._backlog: deque[Job] = deque()
        self._stopping = False
        self._speed = 100.0  # documents per second, a moving average
        self._thread = Thread(target=self._work, name="perank-engine", daemon=True)
        self.metrics.watch(lambda: self.waiting, lambda: len(self.embedding))

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Rank what was accepted, then end the thread."""
        self._inbox.put(None)
        self._thread.join()
        log.info("answered %d of %d accepted requests", self.answered, self.accepted)

    def check_room(self, documents: int = 1) -> None:
        """Raise `Busy` if that many more documents would exceed the limit; an idle server takes any number."""
        if self.waiting and self.waiting + documents > self.limits.max_waiting:
            raise Busy(max(1, min(60, round(self.waiting / max(self._speed, 1.0)))))

    async def rank(self, request: RankRequest) -> Ranking:
        """Return the ranking of a request.

        Raises `Busy`, `TimeoutError` after `max_seconds`, and `BadInput` for an empty query and documents without
        vectors. If the caller is cancelled, the request is dropped.
        """
        self.check_room(len(request.passages))
        job = Job(request, asyncio.get_running_loop().create_future())
        self.waiting += len(request.passages)
        self.accepted += 1
        self._inbox.put(job)
        try:
            async with asyncio.timeout(self.limits.max_seconds):
                return await job.future
        finally:
            self.answered += not job.future.cancelled()
            job.abandoned = True  # no effect on a finished one

    def _work(self) -> None:
        active: list[Job] = []
        while not self._stopping or active or self._backlog:
            try:
                active = self._step(active)
            except Exception as error:  # a bug: the requests in progress fail, the thread goes on
                log.exception("the engine failed")
                for job in active:
                    self._deliver(job, error)
                active = []

    def _step(self, active: list[Job]) -> list[Job]:
        """Admit requests, rank one window of each, deliver finished rankings, and return the unfinished jobs."""
        self._collect(block=not active and not self._backlog)
        began = time.perf_counter()
        active = [job for job in active if not self._dropped(job)]
        active += self._begun(self._admitted(self.limits.max_batch - len(active)))
        return self._advanced(active, began) if active else []

    def _collect(self, *, block: bool) -> None:
        """Move what has arrived to the backlog; an idle thread waits for a request, and a moment for further ones."""
        if block:
            self._take(self._inbox.get())
            until = time.monotonic() + self.limits.batch_wait_ms / 1000
            while len(self._backlog) < self.limits.max_batch and (left := until - time.monotonic()) > 0:
                try:
                    self._take(self._inbox.get(timeout=left))
                except Empty:
                    break
        while not self._inbox.empty():  # no other thread takes from it
            self._take(self._inbox.get())

    def _take(self, job: Job | None) -> None:
        if job is None:
            self._stopping = True
        else:
            self._backlog.append(job)

    def _admitted(self, room: int) -> list[Job]:
        """Take jobs from the backlog, at most `room`, and at most `_TEXTS_AT_ONCE` texts unless one job has more."""
        jobs: list[Job] = []
        texts = 0
        while self._backlog and len(jobs) < room and texts < _TEXTS_AT_ONCE:
            job = self._backlog.popleft()
            if not self._dropped(job):
                jobs.append(job)
                texts += len(job.request.texts)
        return jobs

    def _begun(self, jobs: Sequence[Job]) -> list[Job]:
        """Embed the jobs' documents, together if possible, and return the jobs that can be ranked."""
        encoded: dict[str, Tensor] | None = None
        began, texts = time.perf_counter(), sum(len(job.request.texts) for job in jobs)
        try:
            encoded = self.embedding.encode([text for job in jobs for text in job.request.texts.values()])
        except Exception:  # a text can't be encoded: find out below whose
            log.debug("a batch of texts can't be encoded", exc_info=True)
        share = (time.perf_counter() - began) / max(texts, 1)
        return [job for job in jobs if self._tried(job, partial(self._begin, encoded=encoded, share=share))]

    def _begin(self, job: Job, encoded: Mapping[str, Tensor] | None, share: float) -> None:
        """Set the job's query; its bill holds `share` seconds of encoding per text."""
        request = job.request
        if encoded is None:
            encoded = self.embedding.encode([*request.texts.values()])
        candidates = Candidates(Query("", request.query), request.passages)
        vectors_NE = self.embedding.vectors(request, encoded)
        job.query = self.reranker.begin(candidates, vectors_NE=vectors_NE, top_k=request.top_k)
        job.query.bill += Bill(seconds_encode=len(request.texts) * share)

    def _advanced(self, jobs: list[Job], began: float) -> list[Job]:
        """Rank one window of each job, deliver finished rankings, and return the other jobs."""
        self.metrics.batch(len(jobs))
        try:
            self.reranker.advance([job.query for job in jobs if job.query is not None])
        except Exception:  # one of them can't be ranked: rank each alone
            log.debug("a batch can't be ranked", exc_info=True)
            jobs = [job for job in jobs if self._tried(job, self._advance)]
        finished = [job for job in jobs if job.query is not None and not job.query.spans]
        self._measure(sum(len(job.request.passages) for job in finished), time.perf_counter() - began)
        for job in finished:
            self._finish(job)
        return [job for job in jobs if job not in finished]

    def _advance(self, job: Job) -> None:
        assert job.query is not None  # `_begin` set it
        self.reranker.advance([job.query])

    def _finish(self, job: Job) -> None:
        assert job.query is not None
        ranking = job.query.ranking()
        self.metrics.ranked(len(ranking.order), ranking.bill)
        self._deliver(job, ranking)

    def _tried(self, job: Job, do: Callable[[Job], None]) -> bool:
        """Whether `do` succeeds; the job fails alone otherwise."""
        try:
            do(job)
        except Exception as error:
            if not isinstance(error, BadInput):
                log.exception("a request can't be ranked")
            self._deliver(job, error)
            return False
        return True

    def _dropped(self, job: Job) -> bool:
        """Whether nobody awaits the job any more."""
        if job.abandoned:
            self._deliver(job, asyncio.CancelledError())
        return job.abandoned

    def _deliver(self, job: Job, outcome: Ranking | BaseException) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            job.future.get_loop().call_soon_threadsafe(self._settle, job, outcome)

    def _settle(self, job: Job, outcome: Ranking | BaseException) -> None:
        self.waiting -= len(job.request.passages)
        if job.future.done():
            return
        if isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)

    def _measure(self, documents: int, seconds: float) -> None:
        if documents:
            self._speed += 0.1 * (documents / max(seconds, 1e-6) - self._speed)
