"""Requests and responses of both forms: Jina's `POST /v1/rerank`, Cohere's `POST /v2/rerank`.

Documents may also be objects with a `text`, a `title`, an `id` of the mounted store, or an `embedding`. Keys that
neither form needs are accepted, have no effect, and are listed in the response's `warnings`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, JsonValue, Tag, model_validator

_QUERY = "how to join two lists"
_TEXTS: list[JsonValue] = ["Open a file and return a stream.", "Sort a list.", "Concatenate two lists into one."]
_EXAMPLE: dict[str, JsonValue] = {"query": _QUERY, "documents": _TEXTS, "top_n": 2}
_IDS: dict[str, JsonValue] = {"query": _QUERY, "documents": [{"id": "builtins.open"}, {"id": "list.sort"}]}
_NO_EFFECT = {"max_tokens_per_doc", "priority", "truncation", "max_chunks_per_doc", "rank_fields", "return_embeddings"}


def _encodable(text: str) -> str:
    text.encode("utf-8")  # JSON can encode a lone surrogate, which no tokenizer accepts: a ValueError
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Document(BaseModel):
    """A document with a text, an id of the mounted store or a unit vector; further keys are returned as they are."""

    model_config = ConfigDict(strict=True, extra="allow")

    text: Text | None = Field(default=None, description="read by the encoder")
    title: Text = Field(default="", description="goes before the text")
    id: Text | None = Field(default=None, description="without text and embedding: looked up in the mounted store")
    embedding: list[Finite] | None = Field(default=None, description="a unit vector of the model's encoder")

    @model_validator(mode="after")
    def _has_content(self) -> Document:
        if self.text is None and self.id is None and self.embedding is None:
            raise ValueError("a document needs a text, an id or an embedding")
        return self

    @model_validator(mode="after")
    def _can_be_returned(self) -> Document:
        try:
            json.dumps(self.model_extra, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (ValueError, RecursionError) as error:  # a lone surrogate, NaN, deep nesting
            raise ValueError("a value of the document isn't valid JSON") from error
        return self


def _kind(value: Any) -> str | None:
    return "text" if isinstance(value, str) else "object" if isinstance(value, dict | Document) else None


AnyDocument = Annotated[Annotated[Text, Tag("text")] | Annotated[Document, Tag("object")], Discriminator(_kind)]


class RankBody(BaseModel):
    """What both forms take."""

    model_config = ConfigDict(strict=True, extra="allow")

    query: Text = Field(min_length=1)
    documents: list[AnyDocument] = Field(min_length=1, description="in the order of the first stage")
    top_n: int | None = Field(default=None, ge=1, description="how many results to return; only these are decoded")
    model: Text | None = Field(default=None, description="the served model's name, if given")

    @property
    def warnings(self) -> list[str]:
        """One line per key without effect."""
        given = sorted(self.model_extra or ())
        known = [f"{key} has no effect here" for key in given if key in _NO_EFFECT]
        return known + ([f"{len(given) - len(known)} unknown keys were ignored"] if len(known) < len(given) else [])


class JinaRequest(RankBody):
    """`POST /v1/rerank`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE, _IDS]})

    return_documents: bool = Field(default=True, description="whether results hold their documents")


class CohereRequest(RankBody):
    """`POST /v2/rerank`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "box", **_EXAMPLE}, _IDS]})


class CohereResult(BaseModel):
    """`index` is the position in the request's documents, from 0."""

    index: int
    relevance_score: float = Field(description="from 0 to 1; see the response's score_kind")


class JinaResult(CohereResult):
    """A result with its document, without an embedding."""

    document: dict[str, Any] | None = None


class Cost(BaseModel):
    """The bill: forwards and tokens of the LLM as if the request ran alone, seconds of its share of the batch."""

    forwards: int
    tokens_processed: int
    tokens_generated: int
    seconds_encode: float
    seconds_prefill: float
    seconds_decode: float


class Extra(BaseModel):
    """What this server adds to both forms' responses."""

    score_kind: str = Field(description="`rank`: relevance_score depends on the rank alone and isn't calibrated")
    bill: Cost
    warnings: list[str] = []


class Usage(BaseModel):
    """Tokens that the LLM processed."""

    total_tokens: int
    prompt_tokens: int


class JinaResponse(Extra):
    """Results, best first."""

    model: str
    object: str = "list"
    usage: Usage
    results: list[JinaResult]


class CohereResponse(Extra):
    """Results, best first; `meta` as in Cohere's API: a search unit is 100 documents."""

    id: str
    model: str
    results: list[CohereResult]
    meta: dict[str, Any]


class Problem(BaseModel):
    """Every response from 400: `message` (Cohere's key) and `detail` (Jina's) are the same sentence."""

    message: str
    detail: str
