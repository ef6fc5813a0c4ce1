"""The server over HTTP: both forms, all kinds of documents, limits, keys, and what is refused how."""

from __future__ import annotations

import json

import httpx
import pytest

from perank import Reranker
from perank.serving.application import make_app
from perank.serving.limits import Limits
from perank.serving.schema import CohereRequest, JinaRequest
from support import tiny
from support.served import serving

QUERY = "which otter holds hands"
DOCUMENTS = [" ".join(tiny.WORDS[i : i + 5]) for i in range(12)]
FORMS = ("/v1/rerank", "/v2/rerank")


def post(client: httpx.Client, path: str = "/v1/rerank", **body: object) -> dict:
    answer = client.post(path, json={"query": QUERY, "documents": DOCUMENTS, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def order(answer: dict) -> list[int]:
    return [result["index"] for result in answer["results"]]


@pytest.mark.parametrize("path", FORMS)
def test_texts_are_ranked_as_by_the_reranker(client: httpx.Client, texts_reranker: Reranker, path: str) -> None:
    answer = post(client, path)
    expected = texts_reranker.rank(QUERY, DOCUMENTS)
    assert tuple(order(answer)) == expected.order
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True) and len({*scores}) == 12
    assert 0 < min(scores) < max(scores) < 1
    assert (answer["score_kind"], answer["warnings"]) == ("rank", [])
    assert answer["bill"]["tokens_processed"] == expected.bill.tokens_processed
    assert answer["bill"]["seconds_encode"] > 1e-5  # its texts are part of the bill


def test_jinas_form_returns_documents_unless_told_not_to(client: httpx.Client) -> None:
    answer = post(client, documents=["rain", {"text": "otter", "title": "sea", "page": [3, None]}], model="tiny")
    shown = {result["index"]: result["document"] for result in answer["results"]}
    assert shown == {0: {"text": "rain"}, 1: {"text": "otter", "title": "sea", "page": [3, None]}}
    assert answer["usage"]["total_tokens"] == answer["bill"]["tokens_processed"] > 0
    assert (answer["model"], answer["object"]) == ("tiny", "list")
    assert all("document" not in result for result in post(client, return_documents=False)["results"])


def test_coheres_form_has_an_id_and_what_it_bills(client: httpx.Client) -> None:
    answer, other = post(client, "/v2/rerank", model="tiny"), post(client, "/v2/rerank", model="tiny")
    assert answer["id"] != other["id"]
    assert answer["meta"]["api_version"] == {"version": "2"}
    assert answer["meta"]["billed_units"] == {"search_units": 1}
    assert {*answer["results"][0]} == {"index", "relevance_score"}


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize("top_n", [1, 4, 12, 99])
def test_top_n_results_are_the_first_of_all(client: httpx.Client, path: str, top_n: int) -> None:
    assert order(post(client, path, top_n=top_n)) == order(post(client, path))[:top_n]


def test_ids_vectors_and_texts_of_the_same_documents_rank_alike(client: httpx.Client, reranker: Reranker) -> None:
    ids = [f"d{i}" for i in range(12)]
    texts = [_text(id) for id in ids]
    vectors = reranker.encoder.encode_passages(texts).tolist()
    mixed = [[{"id": ids[i]}, {"embedding": vectors[i]}, texts[i], {"text": texts[i]}][i % 4] for i in range(12)]
    expected = order(post(client, documents=texts))
    assert order(post(client, documents=[{"id": id} for id in ids])) == expected
    assert order(post(client, documents=[{"embedding": vector} for vector in vectors])) == expected
    assert order(post(client, documents=mixed)) == expected
    assert order(post(client, documents=[*mixed[:5], {"id": "mine", "text": texts[5]}, *mixed[6:]])) == expected


def _text(id: str) -> str:
    i = int(id[1:])
    return " ".join(tiny.WORDS[i % 20 : i % 20 + 3 + i % 7])


REFUSED = [
    (422, {"query": " "}, "the query is empty"),
    (422, {"query": ""}, "query: "),
    (422, {"query": 3}, "query: "),
    (422, {"query": "\ud800"}, "query: "),
    (422, {"documents": []}, "documents: "),
    (422, {"documents": "rain"}, "documents: "),
    (422, {"documents": ["rain"] * 51}, "51 documents (send at most 50 per request)"),
    (422, {"documents": [{"title": "rain"}]}, "a document needs a text, an id or an embedding"),
    (422, {"documents": [{"text": "rain", "note": "\udc00"}]}, "documents.0"),
    (422, {"documents": [None]}, "documents.0"),
    (422, {"documents": [{"id": "unknown"}]}, "id 'unknown': not in the mounted store"),
    (422, {"documents": [{"embedding": [1.0] * 8}]}, "has length 2.828, expected 1"),
    (422, {"documents": [{"embedding": [1.0, 0.0]}]}, "document vectors of shape [1, 2], expected [N, 8]"),
    (422, {"documents": [{"embedding": [1.0] + [0.0] * 7}, {"embedding": [1.0]}]}, "are no [N, 8] array"),
    (422, {"documents": [{"embedding": [1e400] * 8}]}, "finite"),
    (422, {"top_n": 0}, "top_n: "),
    (422, {"top_n": True}, "top_n: "),
    (422, {"top_n": "3"}, "top_n: "),
    (404, {"model": "another"}, "the served model is 'tiny'"),
    (413, {"documents": ["rain " * 20_000]}, "more than 50000 bytes"),
]


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(("status", "change", "message"), REFUSED)
def test_what_cannot_be_ranked_is_a_4xx_with_its_reason(
    client: httpx.Client, path: str, status: int, change: dict, message: str
) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, **change}
    answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert message in found["message"] and found["detail"] == found["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null", b'{"query": NaN}', b"[" * 40_000, b"9" * 9000])
def test_what_is_not_json_is_refused(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/v1/rerank", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["message"]
    if content == b"{":
        assert answer.json()["message"] == "the body is not JSON, at character 1"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/rerank", 405), ("GET", "/v3", 404)])
def test_other_routes_and_methods_are_refused(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, {*answer.json()}) == (status, {"message", "detail"})


def test_keys_without_effect_are_warned_of(client: httpx.Client) -> None:
    answer = post(client, "/v2/rerank", max_tokens_per_doc=4096, colour="red")
    assert answer["warnings"] == ["max_tokens_per_doc has no effect here", "1 unknown keys were ignored"]


def test_ids_without_a_store_are_refused(texts_reranker: Reranker) -> None:
    with serving(make_app(texts_reranker, "tiny")) as address:
        answer = httpx.post(f"{address}/v1/rerank", json={"query": QUERY, "documents": [{"id": "d1"}]})
    assert answer.status_code == 422
    assert "id 'd1': documents were named by id, but no store is mounted" in answer.json()["message"]


def test_api_keys_open_the_api_and_nothing_else_needs_one(texts_reranker: Reranker) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS}
    with serving(make_app(texts_reranker, "tiny", keys=["one", "two"])) as address:
        for header in ({}, {"authorization": "Bearer on"}, {"authorization": "Basic one"}, {"authorization": "one"}):
            for path in FORMS:
                answer = httpx.post(address + path, json=body, headers=header)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert httpx.get(address + "/v1/models", headers=header).status_code == 401
        assert httpx.post(address + FORMS[0], json=body, headers={"authorization": "Bearer two"}).status_code == 200
        for path in ("/health", "/metrics", "/", "/openapi.json"):
            assert httpx.get(address + path).status_code == 200


def test_a_request_that_takes_too_long_is_refused(texts_reranker: Reranker) -> None:
    with serving(make_app(texts_reranker, "tiny", limits=Limits(max_seconds=0.0))) as address:
        answer = httpx.post(address + FORMS[0], json={"query": QUERY, "documents": DOCUMENTS})
        assert (answer.status_code, "not finished in time" in answer.json()["message"]) == (408, True)


def test_models_health_and_metrics(client: httpx.Client) -> None:
    post(client)
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["window"], model["step"], model["store"]) == ("tiny", 5, 3, 60)
    assert client.get("/health").json() == {"status": "ok", "model": "tiny", "waiting_documents": 0}
    said = client.get("/metrics").text
    for line in ('perank_responses_total{route="/v1/rerank",status="200"}', "perank_waiting_documents 0.0"):
        assert line in said
    assert client.get("/v1/rerank/../../etc").status_code == 404
    assert 'route="other",status="404"' in client.get("/metrics").text


def test_the_openapi_document_has_examples_that_are_valid(client: httpx.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name, kind in {"JinaRequest": JinaRequest, "CohereRequest": CohereRequest}.items():
        assert len([kind.model_validate(example) for example in schemas[name]["examples"]]) == 2


def test_the_page_needs_no_network(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in answer.text and "https://" not in answer.text and "src=" not in answer.text
