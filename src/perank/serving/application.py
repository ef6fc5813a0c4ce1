"""The FastAPI application: routes of both forms, the list of models, health, metrics, and the page at `/`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException

from perank import __version__
from perank.errors import BadInput
from perank.ranking.reranker import Reranker
from perank.records import Ranking
from perank.serving.engine import Busy, Engine
from perank.serving.forms import cohere_response, jina_response, request_of
from perank.serving.guard import Guard
from perank.serving.limits import Limits
from perank.serving.schema import CohereRequest, CohereResponse, JinaRequest, JinaResponse, Problem, RankBody

_PAGE = Path(__file__).with_name("page.html")
_NO_NETWORK = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "not JSON"},
    401: {"model": Problem, "description": "no valid API key"},
    404: {"model": Problem, "description": "another model"},
    408: {"model": Problem, "description": "too slow"},
    413: {"model": Problem, "description": "too many bytes"},
    422: {"model": Problem, "description": "documents or settings that can't be used"},
    429: {"model": Problem, "description": "busy: try again after Retry-After seconds"},
}
_LOST = 499  # the client has gone; nobody reads this status but the metrics


def make_app(reranker: Reranker, name: str, *, limits: Limits | None = None, keys: Collection[str] = ()) -> Any:
    """An ASGI application that serves `reranker` as model `name`; with `keys`, requests need one of them."""
    limits = limits or Limits()
    engine = Engine(reranker, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.stop)

    purpose = "Reranking with PE-Rank, in Jina's and Cohere's forms."
    app = FastAPI(
        title="perank", version=__version__, description=purpose, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(BadInput, _bad_input)
    app.add_exception_handler(Busy, _busy)
    app.add_exception_handler(TimeoutError, _too_slow)
    _add_rank_routes(app, engine, name)
    _add_other_routes(app, engine, name)
    routes = [route.path for route in app.routes if hasattr(route, "path")]
    app.add_middleware(Guard, engine=engine, keys=keys, routes=routes)
    app.state.engine = engine
    return app


def _add_rank_routes(app: FastAPI, engine: Engine, name: str) -> None:
    async def ranked(body: RankBody, request: Request) -> Ranking:
        if body.model not in (None, name):
            raise HTTPException(404, f"the served model is {name!r}")
        return await _while_connected(engine, request_of(body, engine.limits.max_documents), request)

    @app.post("/v1/rerank", responses=_PROBLEMS, response_model_exclude_none=True)
    async def jina(body: JinaRequest, request: Request) -> JinaResponse:
        """Rank documents: texts, objects, ids of the mounted store, or vectors (Jina's form)."""
        return jina_response(body, await ranked(body, request), name)

    @app.post("/v2/rerank", responses=_PROBLEMS)
    async def cohere(body: CohereRequest, request: Request) -> CohereResponse:
        """Rank documents: texts, objects, ids of the mounted store, or vectors (Cohere's form)."""
        return cohere_response(body, await ranked(body, request), name)


def _add_other_routes(app: FastAPI, engine: Engine, name: str) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The served model."""
        windows, store = engine.reranker.windows, engine.reranker.store
        details = {"window": windows.window, "step": windows.step, "store": len(store) if store is not None else None}  # type: ignore[arg-type]
        return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": "perank", **details}]}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the server is up, and how many documents are waiting."""
        return {"status": "ok", "model": name, "waiting_documents": engine.waiting}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        headers = {"content-security-policy": _NO_NETWORK, "x-content-type-options": "nosniff"}
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers=headers)


async def _while_connected(engine: Engine, work: Any, request: Request) -> Ranking:
    """The ranking, unless the client hangs up: then the request is dropped."""
    ranking = asyncio.ensure_future(engine.rank(work))
    gone = asyncio.ensure_future(request.receive())  # the body was read: only a disconnection can follow
    try:
        await asyncio.wait({ranking, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not ranking.done():
            raise HTTPException(_LOST, "the client closed the connection")
        return ranking.result()
    finally:
        ranking.cancel()
        gone.cancel()


def _problem(status: int, message: str, **headers: str) -> JSONResponse:
    return JSONResponse({"message": message, "detail": message}, status_code=status, headers=headers)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """The first problem and its place; never the values themselves, which may not be valid JSON."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _problem(400, f"the body is not JSON, at character {first['loc'][-1]}")
    place = ".".join(str(part) for part in first["loc"][1:])[:100].encode("utf-8", "replace").decode("utf-8")
    return _problem(422, f"{place}: {first['msg']}" if place else first["msg"])


def _http_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, str(error.detail), **dict(error.headers or {}))


def _bad_input(_: Request, error: Exception) -> JSONResponse:
    return _problem(422, str(error))


def _busy(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Busy)
    return _problem(429, str(error), **{"retry-after": str(error.retry_after)})


def _too_slow(_: Request, __: Exception) -> JSONResponse:
    return _problem(408, "the ranking was not finished in time: send fewer documents, or try again later")
