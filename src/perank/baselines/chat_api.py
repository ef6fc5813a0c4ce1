"""Client for OpenAI-compatible chat endpoints: bounded concurrency, retries with backoff, every answer cached on disk.

An answer is written to the cache before it is used: interrupted runs resume, and a rerun costs nothing. Requests that
a retry can't help (a wrong key, an unknown model) fail immediately.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perank.errors import Absent, BadInput, check_least
from perank.files import cache_dir, read_json, write_json

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

Message = Mapping[str, str]


class TooLong(Exception):
    """The endpoint reports that the prompt exceeds the model's context."""


class _Again(Exception):
    """A failure to retry, in `after` seconds if the endpoint gave a delay."""

    def __init__(self, problem: str, after: float | None = None) -> None:
        super().__init__(problem)
        self.after = after


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's text, the tokens charged, the seconds the request took, and its cost now (0 dollars if cached)."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    dollars: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class ChatApi:
    """Chat completions by POST to `<base_url>/chat/completions`, at most `concurrency` at once.

    429, 5xx, timeouts, broken connections and malformed bodies are retried, `attempts` times in all. Delays grow from
    `patience` seconds, with jitter, or follow Retry-After; the maximum is a minute. Prices are in dollars per million
    tokens. `key_variable` names the environment variable that holds the key (None: no key is sent), `cache` the folder
    for answers (None: perank's default), `options` additional request fields. Raises `Absent` if the variable is empty.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    _: KW_ONLY
    key_variable: str | None = "OPENAI_API_KEY"
    concurrency: int = 8
    attempts: int = 6
    patience: float = 1.0
    timeout: float = 120.0
    input_price: float = 0.0
    output_price: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    cache: str | Path | None = None

    def __post_init__(self) -> None:
        check_least("", 1, concurrency=self.concurrency, attempts=self.attempts)
        if self.key_variable is not None and not os.environ.get(self.key_variable):
            problem = f"no key in the environment variable {self.key_variable}"
            raise Absent(problem, remedy="set it, or key_variable=null for an endpoint without keys", id=self.model)

    @property
    def url(self) -> str:
        """The address of the completions endpoint."""
        return self.base_url.rstrip("/") + "/chat/completions"

    def session(self) -> Session:
        """Connections for one event loop; use it with `async with`."""
        return Session(self)

    def request(self, messages: Sequence[Message]) -> dict[str, Any]:
        """The JSON body of a request."""
        return {"model": self.model, "messages": [dict(m) for m in messages], "temperature": 0.0, **self.options}

    def kept(self, request: Mapping[str, Any]) -> Path:
        """Path of the cached answer to a request."""
        identity = json.dumps([self.url, request], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
        folder = cache_dir() / "chat" if self.cache is None else Path(self.cache)
        return folder / digest[:2] / f"{digest}.json"


class Session:
    """An open HTTP client with its semaphore."""

    def __init__(self, api: ChatApi) -> None:
        self.api, self.free = api, asyncio.Semaphore(api.concurrency)

    async def __aenter__(self) -> Session:
        import httpx

        variable = self.api.key_variable
        headers = {} if variable is None else {"Authorization": f"Bearer {os.environ[variable]}"}
        self.client: httpx.AsyncClient = httpx.AsyncClient(headers=headers, timeout=self.api.timeout)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.client.aclose()

    async def complete(self, messages: Sequence[Message]) -> Reply:
        """Return the model's answer, from the cache if possible.

        Raises `TooLong`, and `BadInput` if the endpoint refuses the request or every attempt fails.
        """
        request = self.api.request(messages)
        path = self.api.kept(request)
        if (known := _read(path)) is not None:
            return known
        async with self.free:
            reply = await self._asked(request)
        write_json(path, {"request": request, "reply": {k: v for k, v in asdict(reply).items() if k != "dollars"}})
        return reply

    async def _asked(self, request: Mapping[str, Any]) -> Reply:
        from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.api.attempts),
            wait=self._pause,
            retry=retry_if_exception_type(_Again),
            before_sleep=lambda state: log.info(
                "retrying the request: %s", state.outcome and state.outcome.exception()
            ),
            reraise=True,
        )
        try:
            reply: Reply = await retrying(self._once, request)
        except _Again as error:
            problem = f"no answer in {self.api.attempts} attempts: {error}"
            remedy = "run again later: answers received so far are cached"
            raise BadInput(problem, remedy=remedy, id=self.api.model) from error
        return reply

    async def _once(self, request: Mapping[str, Any]) -> Reply:
        import httpx

        began = time.perf_counter()
        try:
            response = await self.client.post(self.api.url, json=request)
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Again(f"{type(error).__name__}: {error}") from error
        if response.status_code == 429 or response.status_code >= 500:
            raise _Again(f"status {response.status_code}", _seconds(response.headers.get("retry-after")))
        if response.status_code >= 400:
            if "context_length" in response.text or "maximum context length" in response.text:
                raise TooLong
            problem = f"the endpoint refuses with status {response.status_code}: {response.text[:200]}"
            raise BadInput(problem, remedy="check the key, the model and base_url", id=self.api.model)
        return self._reply(response, time.perf_counter() - began)

    def _reply(self, response: httpx.Response, seconds: float) -> Reply:
        try:
            body = response.json()
            text = body["choices"][0]["message"]["content"]
            usage = body.get("usage") or {}
            read, wrote = int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise _Again(f"the body isn't an answer: {response.text[:80]!r}") from error
        dollars = (read * self.api.input_price + wrote * self.api.output_price) / 1e6
        return Reply(text if isinstance(text, str) else "", read, wrote, seconds, dollars)

    def _pause(self, state: Any) -> float:
        from tenacity import wait_random_exponential

        error = state.outcome.exception()
        if error.after is not None:
            return min(float(error.after), 60.0)
        return float(wait_random_exponential(multiplier=self.api.patience, max=60)(state))


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else max(0.0, float(header))
    except ValueError:  # a date
        return None


def _read(path: Path) -> Reply | None:
    """The cached answer; None if it is missing or unreadable."""
    if not path.is_file():
        return None
    try:
        return Reply(**read_json(path)["reply"])
    except (BadInput, KeyError, TypeError) as error:
        log.warning("the cached answer can't be read, sending the request again: %s", error)
        return None
