"""Generated malformed requests, by the OpenAPI document: each is answered with a 4xx, none with a 5xx, and all go on.

`PERANK_MALFORMED` is how many; the default keeps the test fast.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perank import Reranker
from perank.serving.application import make_app

COUNT = int(os.environ.get("PERANK_MALFORMED", "300"))
GOOD = {"query": "which otter", "documents": ["rain", "a sea otter", {"id": "d1"}, {"text": "sun", "title": "sky"}]}
ODD: list[Any] = [
    *(None, True, -1, 0, 10**400, 1.5, float("nan"), float("inf"), "", " ", "\ud800", "\0", "x" * 3000, [], {}, [[]]),
    *({"text": None}, {"text": 3}, {"text": "\udfff"}, {"id": ""}, {"id": 7}, {"embedding": []}, {"embedding": [1]}),
    *({"embedding": [1e308] * 8}, {"embedding": ["1"] * 8}, {"embedding": [None] * 8}, {"title": "only"}),
    *({"\ud800": 1}, {"text": "a", "deep": [[[[[[[["\udc00"]]]]]]]]}, {"text": "a", "x": float("nan")}),
]


def violations(schema: dict[str, Any], dice: random.Random) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """For every property of a request's schema, values that it doesn't allow; and no value where one is required."""
    kinds = {"string": str, "integer": int, "array": list, "boolean": bool, "null": type(None)}
    for name, rules in schema["properties"].items():
        allowed = [kinds[part["type"]] for part in rules.get("anyOf", [rules])]
        wrong = [value for value in ODD if type(value) not in allowed]
        yield lambda body, name=name, wrong=wrong: {**body, name: dice.choice(wrong)}
        if name in schema["required"]:
            yield lambda body, name=name: {key: value for key, value in body.items() if key != name}


def in_documents(dice: random.Random) -> Callable[[dict[str, Any]], Any]:
    """A document in any place that isn't one."""
    wrong = [value for value in ODD if not isinstance(value, str) or value == "\ud800"]
    return lambda body: {**body, "documents": [*body["documents"], dice.choice(wrong)]}


def torn(text: str, dice: random.Random) -> bytes:
    """JSON text with bytes removed, or others in their place: not JSON, or of another shape."""
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    at = dice.randrange(len(content))
    match dice.randrange(3):
        case 0:
            return bytes(content[:at])
        case 1:
            return bytes(content[:at] + dice.randbytes(3) + content[at + 1 :])
    return b"\xff\xfe" + bytes(content)


def malformed(document: dict[str, Any], count: int) -> Iterator[tuple[str, bytes]]:
    """(route, body) of requests that break the OpenAPI document's rules."""
    dice = random.Random(0)
    for i in range(count):
        path = dice.choice(["/v1/rerank", "/v2/rerank"])
        reference = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        ways = [*violations(schema, dice), in_documents(dice)]
        if i % 4 == 0:
            yield path, torn(json.dumps(GOOD), dice)
        elif i % 4 == 1:
            yield path, json.dumps(dice.choice(ODD)).encode()
        else:
            yield path, json.dumps(dice.choice(ways)(GOOD)).encode()


async def answers(app: Any, requests: list[tuple[str, bytes]]) -> list[httpx.Response]:
    """Responses without a socket; an exception that the application lets through is raised here."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    gate = asyncio.Semaphore(20)

    async def one(client: httpx.AsyncClient, path: str, content: bytes) -> httpx.Response:
        async with gate:
            return await client.post(path, content=content, headers={"content-type": "application/json"})

    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await asyncio.gather(*(one(client, *request) for request in requests))


def test_malformed_requests_are_4xx_each_and_the_server_lives(app: Any) -> None:
    requests = list(malformed(app.openapi(), COUNT))
    *found, last = asyncio.run(answers(app, [*requests, ("/v1/rerank", json.dumps(GOOD).encode())]))
    assert (last.status_code, app.state.engine.waiting) == (200, 0)
    statuses = [answer.status_code for answer in found]
    sys.stdout.write(f"{COUNT} malformed requests, responses by status: {dict(Counter(statuses))}\n")
    valid = [i for i, status in enumerate(statuses) if status == 200]
    assert all(is_valid(requests[i][1]) for i in valid)  # a byte inside a text may be exchanged and still be a text
    assert len(valid) < 0.1 * COUNT
    wrong = {status for status in statuses if status != 200 and not 400 <= status < 429}
    assert not wrong, [requests[i] for i, status in enumerate(statuses) if status in wrong][:3]
    for answer in found:
        if answer.status_code != 200:
            assert answer.json()["message"] and "Traceback" not in answer.text


def is_valid(content: bytes) -> bool:
    body = json.loads(content)
    return isinstance(body["query"], str) and isinstance(body["documents"], list)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
BODIES = st.fixed_dictionaries(
    {}, optional={"query": JSON, "documents": st.lists(JSON, max_size=4) | JSON, "top_n": JSON, "model": JSON}
)


@pytest.fixture(scope="module")
def app(reranker: Reranker) -> Iterator[Any]:
    app = make_app(reranker, "tiny")
    app.state.engine.start()
    yield app
    app.state.engine.stop()


@settings(max_examples=30)
@given(body=BODIES, path=st.sampled_from(["/v1/rerank", "/v2/rerank"]))
def test_any_json_is_answered_without_a_5xx(app: Any, body: Any, path: str) -> None:
    (answer,) = asyncio.run(answers(app, [(path, json.dumps(body).encode())]))
    assert answer.status_code < 429
