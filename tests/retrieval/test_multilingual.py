"""BM25 in scripts that the English analysis can't split, and a word where queries find nothing."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perank.app.suites import beir_suite
from perank.errors import BadInput
from perank.preparation.fingerprint import settings_of
from perank.records import Passage, Query
from perank.retrieval.bm25 import Bm25, EnglishAnalyzer
from perank.retrieval.multilingual import MultilingualAnalyzer

TEXTS = {
    "zh": ("今天北京的天气很好", "上海的经济发展迅速", "北京天气"),
    "ja": ("東京の天気は晴れです", "大阪の経済は成長した", "東京の天気"),
    "ko": ("서울의날씨는맑습니다", "부산의경제가성장했다", "서울의날씨"),
    "th": ("วันนี้อากาศดีมาก", "เศรษฐกิจเติบโตเร็ว", "อากาศดี"),
    "hi": ("दिल्ली में मौसम अच्छा है", "मुंबई की अर्थव्यवस्था", "दिल्ली मौसम"),
    "ar": ("الطقس في القاهرة جميل", "اقتصاد دبي ينمو", "الطقس القاهرة"),
    "ru": ("Погода в Москве хорошая", "Экономика растёт", "погода в москве"),
}


def collection(language: str) -> Any:
    first, second, query = TEXTS[language]
    passages = {"p1": Passage("p1", first), "p2": Passage("p2", second)}
    return SimpleNamespace(name=language, passages=passages, queries={"q1": Query("q1", query)})


@pytest.mark.parametrize("language", TEXTS)
def test_a_query_finds_the_passage_that_has_its_words(language: str) -> None:
    run = Bm25(analyzer="multilingual").search(collection(language))
    assert next(iter(run["q1"])) == "p1"


@pytest.mark.parametrize("language", ["zh", "ja", "ko"])
def test_most_queries_finding_nothing_is_said_with_the_setting_that_helps(
    language: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert Bm25().search(collection(language)) == {"q1": {}}
    assert f"1 of 1 queries share no word with any passage of {language}, for example q1" in caplog.text
    assert "analyzer=multilingual" in caplog.text


def test_nothing_is_said_where_queries_find_something(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Bm25().search(collection("ru"))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),  # noqa: RUF001
        ("北京天气 GPT-4", ["北京", "京天", "天气", "gpt", "4"]),
        ("iPhone手机壳", ["iphone", "手机", "机壳"]),
        ("茶", ["茶"]),
        ("Ｆｕｌｌ ＷＩＤＴＨ", ["full", "width"]),  # noqa: RUF001
        ("Straße cafe\u0301", ["strasse", "caf\u00e9"]),
    ],
)
def test_words_keep_their_marks_and_scripts_without_blanks_become_pairs(text: str, words: list[str]) -> None:
    assert MultilingualAnalyzer()(text) == words


def test_the_english_analysis_tears_hindi_apart_and_takes_chinese_for_one_word() -> None:
    assert "हिन्दी" not in EnglishAnalyzer()("हिन्दी")
    assert EnglishAnalyzer()("今天北京的天气") == ["今天北京的天气"]


@given(st.text(max_size=40))
def test_no_letter_or_digit_is_lost(text: str) -> None:
    import unicodedata

    plain = unicodedata.normalize("NFKC", text).casefold()
    found = set("".join(MultilingualAnalyzer()(text)))
    assert {character for character in plain if character.isalnum()} <= found


def test_stemmers_of_other_languages_apply_to_words() -> None:
    run = Bm25(analyzer="multilingual", stemmer="russian")
    assert run._analyze("погоды") == run._analyze("погода")


def test_an_unknown_analyzer_is_refused() -> None:
    with pytest.raises(BadInput, match="choose english or multilingual"):
        Bm25(analyzer="chinese")


def test_only_another_analyzer_changes_the_fingerprint_of_rows() -> None:
    assert "analyzer" not in settings_of(Bm25())
    assert settings_of(Bm25(analyzer="multilingual"))["analyzer"] == "multilingual"


def test_a_suite_takes_a_bm25_of_its_own(world: Any) -> None:
    bm25 = Bm25(analyzer="multilingual")
    assert beir_suite(name="x", folder=str(world / "collection"), first_stage=bm25).first_stage is bm25
