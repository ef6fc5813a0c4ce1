"""Rankers by their settings rank as what they load, with the windows, views and bounds that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from perank.app.settings import check_arguments
from perank.baselines.first_token import FirstToken
from perank.baselines.loading import FirstTokenRanker, ListwiseRanker, RankGPTRanker, SavedReranker
from perank.baselines.text_listwise import TextListwise
from perank.errors import Absent, BadInput
from perank.model.listwise_prompts import ListwisePrompts
from perank.ranking.windows import Windows
from perank.records import Ranker
from support import small_llms, tiny_families

PLACE = {"dtype": "float32", "device": "cpu"}


def test_a_listwise_ranker_is_the_llm_of_that_folder_asked_in_those_words(tmp_path: Path) -> None:
    llm, batch = small_llms.llm(5).float(), [small_llms.candidates(n) for n in (9, 4)]
    llm.save_pretrained(tmp_path)
    small_llms.tokenizer().save_pretrained(tmp_path)
    made = ListwiseRanker(name=str(tmp_path), prompt="compact", text="text", window=Windows(6, 3, 2), **PLACE)
    plain = TextListwise(llm, small_llms.prompts(), windows=Windows(6, 3, 2))
    assert isinstance(made, Ranker)
    assert [found.order for found in made.rank_batch(batch)] == [found.order for found in plain.rank_batch(batch)]
    assert made.ranker.windows == Windows(6, 3, 2)


def test_a_first_token_ranker_needs_no_prompt(tmp_path: Path) -> None:
    llm, tokenizer = tiny_families.tiny_llm(2), tiny_families.chat_tokenizer()
    llm.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = FirstTokenRanker(name=str(tmp_path), **PLACE)
    plain = FirstToken(llm, ListwisePrompts(tokenizer, "first"))
    batch = [small_llms.candidates(n) for n in (9, 1, 25)]
    assert [found.order for found in made.rank_batch(batch)] == [found.order for found in plain.rank_batch(batch)]


def test_a_saved_reranker_has_the_windows_it_was_saved_with_unless_others_are_named() -> None:
    assert SavedReranker(window=Windows(20, 10, 10), batch_tokens=512, device="cpu").ranker.windows == Windows(
        20, 10, 10
    )
    assert SavedReranker(device="cpu").ranker.windows == Windows(20, 10)


def test_an_endpoint_without_its_key_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(Absent, match="OPENAI_API_KEY"):
        RankGPTRanker(model="gpt-test")
    made = RankGPTRanker(model="gpt-test", key_variable=None, input_price=3.0, window=Windows(4, 2))
    assert (made.ranker.api.input_price, made.ranker.windows) == (3.0, Windows(4, 2))


def test_a_file_of_summaries_that_is_not_there_is_absent() -> None:
    with pytest.raises(Absent, match="no_such"):
        RankGPTRanker(model="gpt-test", key_variable=None, text="no_such.jsonl")


@pytest.mark.parametrize("settings", [{"prompt": 3}, {"window": "wide"}, {"windw": 3}])
def test_settings_are_held_against_the_fields(settings: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=r"ranker\.mine"):
        check_arguments(ListwiseRanker, {"name": "x", "prompt": "compact", **settings}, "ranker.mine")
