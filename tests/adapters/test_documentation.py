"""docs/adapters.md: each library's code runs and gives the reranker's order."""

from __future__ import annotations

import re
from typing import Any

import pytest

from adapters.conftest import IDS, QUERY, TEXTS
from perank import Reranker
from perank.files import PACKAGE_DIR
from support.documented import blocks

BLOCKS = blocks("adapters.md")


def given(library: str) -> dict[str, Any]:
    """The objects that a block expects to exist."""
    common = {"query": QUERY, "texts": TEXTS, "ids": IDS, "documents": TEXTS}
    pairs = list(zip(IDS, TEXTS, strict=True))
    match library:
        case "pyterrier":
            import pandas
            import pyterrier as pt

            columns = ["qid", "query", "docno", "text", "score", "rank"]
            rows = [["q", QUERY, id, text, -float(rank), rank] for rank, (id, text) in enumerate(pairs)]
            retriever = pt.Transformer.from_df(pandas.DataFrame(rows, columns=columns))
            return {"retriever": retriever, "topics": pandas.DataFrame([["q", QUERY]], columns=["qid", "query"])}
        case "langchain_core":
            from langchain_core.documents import Document

            return {**common, "documents": [Document(text, id=id) for id, text in pairs]}
        case "llama_index.core":
            from llama_index.core.schema import NodeWithScore, TextNode

            return {**common, "nodes": [NodeWithScore(node=TextNode(text=text, id_=id)) for id, text in pairs]}
        case "haystack":
            from haystack import Document

            return {**common, "documents": [Document(id=id, content=text) for id, text in pairs]}
        case "mteb":
            from mteb.mocks.mock_tasks.reranking import MockRerankingTask

            return {"tasks": [MockRerankingTask()]}
    return common


def ids_of(library: str, results: Any) -> list[str]:
    """The passage ids of a library's results, best first."""
    match library:
        case "pyterrier":
            return list(results["docno"])
        case "sentence_transformers":
            return [IDS[result["corpus_id"]] for result in results]
        case "llama_index.core":
            return [result.node.node_id for result in results]
        case "rerankers":
            return [result.doc_id for result in results]
    return [result.id for result in results]


@pytest.mark.parametrize("library", BLOCKS)
def test_a_librarys_code_ranks(library: str, reranker: Reranker, order: list[int]) -> None:
    pytest.importorskip(library, reason=f"needs {library}")
    names: dict[str, Any] = {**given(library), "reranker": reranker}
    exec(compile(BLOCKS[library], f"docs/adapters.md, {library}", "exec"), names)
    if library == "mteb":
        assert names["results"].model_name == "mine/model"
    else:
        assert ids_of(library, names["results"])[:3] == [IDS[i] for i in order[:3]]


def test_every_adapter_is_documented() -> None:
    text = (PACKAGE_DIR.parent.parent / "docs" / "adapters.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`perank\.adapters\.(\w+)\.(\w+)`", text))
    modules = {path.stem for path in (PACKAGE_DIR / "adapters").glob("*.py")} - {"__init__", "scoring"}
    assert {module for module, _ in named} == modules
    assert {library.split(".")[0].removesuffix("_core") for library in BLOCKS} == modules
    for module, name in named:
        source = (PACKAGE_DIR / "adapters" / f"{module}.py").read_text(encoding="utf-8")
        assert re.search(rf"^class {name}\b", source, re.MULTILINE)
