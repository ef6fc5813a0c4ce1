"""From bodies of both forms to requests of the engine, and from rankings to responses."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from perank.errors import BadInput
from perank.records import Bill, Passage, Ranking
from perank.serving.embedding import RankRequest
from perank.serving.schema import (
    CohereResponse,
    CohereResult,
    Cost,
    Document,
    JinaRequest,
    JinaResponse,
    JinaResult,
    RankBody,
    Usage,
)
from perank.serving.scores import SCORE_KIND, relevance_scores


def request_of(body: RankBody, max_documents: int) -> RankRequest:
    """Raises `BadInput` for an empty query and for too many documents."""
    if not body.query.strip():
        raise BadInput("the query is empty", remedy="give it a text")
    if len(body.documents) > max_documents:
        remedy = f"send at most {max_documents} per request"
        raise BadInput(f"{len(body.documents)} documents", remedy=remedy)
    documents = [Document(text=found) if isinstance(found, str) else found for found in body.documents]
    given = {i: found.embedding for i, found in enumerate(documents) if found.embedding is not None}
    by_id = frozenset(i for i, found in enumerate(documents) if found.embedding is None and found.text is None)
    passages = tuple(Passage(found.id or str(i), found.text or "", found.title) for i, found in enumerate(documents))
    return RankRequest(query=body.query, passages=passages, given=given, by_id=by_id, top_k=body.top_n)


def jina_response(body: JinaRequest, ranking: Ranking, model: str) -> JinaResponse:
    """The form of `POST /v1/rerank`."""
    results = [JinaResult(index=index, relevance_score=score) for index, score in _scored(body, ranking)]
    if body.return_documents:
        for result in results:
            result.document = _shown(body.documents[result.index])
    tokens = ranking.bill.tokens_processed
    usage = Usage(total_tokens=tokens, prompt_tokens=tokens)
    return JinaResponse(model=model, usage=usage, results=results, **_extra(body, ranking.bill))


def cohere_response(body: RankBody, ranking: Ranking, model: str) -> CohereResponse:
    """The form of `POST /v2/rerank`."""
    results = [CohereResult(index=index, relevance_score=score) for index, score in _scored(body, ranking)]
    tokens = {"input_tokens": ranking.bill.tokens_processed, "output_tokens": ranking.bill.tokens_generated}
    units = {"search_units": -(-len(body.documents) // 100)}
    meta = {"api_version": {"version": "2"}, "billed_units": units, "tokens": tokens}
    return CohereResponse(id=str(uuid4()), model=model, results=results, meta=meta, **_extra(body, ranking.bill))


def _scored(body: RankBody, ranking: Ranking) -> list[tuple[int, float]]:
    """(position, score) of the results asked for, best first."""
    pairs = list(zip(ranking.order, relevance_scores(ranking), strict=True))
    return pairs[: body.top_n]


def _shown(document: str | Document) -> dict[str, Any]:
    """The document as it was sent, without its vector."""
    if isinstance(document, str):
        return {"text": document}
    return document.model_dump(exclude={"embedding"}, exclude_unset=True)


def _extra(body: RankBody, bill: Bill) -> dict[str, Any]:
    cost = Cost(**{name: getattr(bill, name) for name in Cost.model_fields})
    return {"score_kind": SCORE_KIND, "bill": cost, "warnings": body.warnings}
