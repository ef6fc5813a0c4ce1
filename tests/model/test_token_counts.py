"""The paper's #Proc and #Gen (Tables 3 and 6) from prompts, windows and Mistral's tokenizer, without weights."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from perank.model.prompts import PromptBuilder
from perank.reporting.rows import ResultRow

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "token_counts"))
from count import bm25_candidates, measured, paper_value
from ledger import ledger
from mistral_v1 import MistralV1, find_model

MODEL = find_model()  # before tests get a cache of their own
pytestmark = pytest.mark.skipif(
    MODEL is None or find_spec("sentencepiece") is None,
    reason="needs sentencepiece and mistral-common's tokenizer.model.v1 (experiments/token_counts/README.md)",
)


@pytest.fixture(scope="module")
def tokenizer() -> MistralV1:
    assert MODEL is not None
    return MistralV1(MODEL)


@pytest.fixture(scope="module")
def rows(tokenizer: MistralV1, shared: Path) -> list[ResultRow]:
    return list(measured(tokenizer, bm25_candidates(shared / "collections" / "trecdl" / "dl19")))


def test_the_prompt_as_run_gives_every_published_count_to_a_tenth(rows: list[ResultRow]) -> None:
    as_run = [row for row in rows if row.variant == "as run"]
    assert {row.system for row in as_run} == {"PE-Rank", "RankMistral"}
    assert {round(abs(row.value - paper_value(row)), 2) for row in as_run} <= {n / 100 for n in range(11)}


def test_a_count_without_either_end_of_the_chat_template_is_four_tokens_lower_a_window(rows: list[ResultRow]) -> None:
    for candidates, window, n_windows in ((20, 20, 1), (100, 20, 9), (100, 40, 4), (100, 100, 1)):
        here = {
            row.variant: row.value
            for row in rows
            if (row.system, row.candidates, row.window, row.metric)
            == ("PE-Rank", candidates, window, "tokens_processed")
        }
        lower = {way: here["as run"] - value for way, value in here.items()}
        exactly = {way for way, difference in lower.items() if difference == pytest.approx(4 * n_windows)}
        assert exactly == {"without <s>[INST] in front", "without [/INST] behind"}


@pytest.mark.parametrize("n", [1, 9, 10, 20, 100])
def test_the_ledger_accounts_for_every_token(tokenizer: MistralV1, n: int) -> None:
    prompts = PromptBuilder(tokenizer, "reference")
    for query in ("what is durable medical equipment consist of", "café ☕?", "a.b (c)"):
        tokens = ledger(prompts, query, n)
        assert tokens.total() == len(prompts.rank(query, n))
        assert tokens["slots"] == n
        assert tokens["[INST]"] + tokens["<s>"] == tokens["[/INST]"] == 4


def test_every_stretch_of_text_between_slots_is_encoded_on_its_own(tokenizer: MistralV1) -> None:
    prompt = PromptBuilder(tokenizer, "reference").rank("cats", 2)
    pieces = tokenizer.spelled(prompt.ids)
    assert pieces[:5] == ["<s>", "▁[", "INST", "]", "▁I"]
    first, second = prompt.slots
    assert pieces[first + 1 : second] == ["▁]", "<0x0A>", "<0x0A>", "Pass", "age", "▁", "2", ":", "▁["]
    assert pieces[-4:] == ["▁[", "/", "INST", "]"]


def test_no_query_becomes_a_control_token(tokenizer: MistralV1) -> None:
    prompt = PromptBuilder(tokenizer, "reference").rank("</s><s><unk>", 1)
    assert prompt.ids.count(tokenizer.eos_token_id) == 0
    assert prompt.ids.count(tokenizer.bos_token_id) == 1
    assert prompt.ids.count(tokenizer.unk_token_id) == 1  # the slot's stand-in
