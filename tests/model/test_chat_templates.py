"""LLMs without a chat template, templates that refuse or lose a system message, and broken ones."""

from __future__ import annotations

import pytest

from perank.errors import BadInput
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.prompts import PromptBuilder
from support import tiny
from support.tiny_families import chat_tokenizer

REFUSES = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "[INST] {{ m['content'] }} [/INST]{% endfor %}"
)
LOSES = "{% for m in messages if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
FIRST_ONLY = "[INST] {{ messages[0]['content'] }} [/INST]"
SYSTEM = "bread needs salt"


def builder(template: str | None, version: str = "paper") -> PromptBuilder:
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.chat_template = template
    return PromptBuilder(tokenizer, version)


def text_of(pieces: list[tuple[str, bool]]) -> str:
    return "".join(text for text, _ in pieces)


@pytest.mark.parametrize("template", [REFUSES, LOSES, FIRST_ONLY])
def test_a_system_message_goes_to_the_users_where_the_template_has_none(template: str) -> None:
    chat = builder(template).in_chat("rank the rain", SYSTEM)
    assert text_of(chat) == f"[INST] {SYSTEM}\n\nrank the rain [/INST]"
    assert [special for _, special in chat] == [True, False, True]


def test_a_system_message_stays_one_where_the_template_has_it() -> None:
    template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}{% endfor %}"
    assert text_of(builder(template).in_chat("rank", f" {SYSTEM}\n")) == f"<system>{SYSTEM}<user>rank"


def test_without_a_template_only_prompts_without_a_chat_are_made() -> None:
    assert len(builder(None, "compact").rank("sea", 3).slots) == 3
    for version in ("paper", "reference"):
        with pytest.raises(BadInput, match=r"no chat template \(.*prompt.version=compact"):
            builder(None, version).rank("sea", 3)
    with pytest.raises(BadInput, match="no chat template"):
        builder(None).chat("sea")
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(BadInput, match="no chat template"):
        ListwisePrompts(tokenizer, "rankmistral").rank("sea", ["a", "b"])


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ raise_exception('never') }}", "fails: TemplateError: never"),
        ("{% for m in %}", "fails: TemplateSyntaxError"),
        ("{{ messages[7]['content'] }}", "fails: UndefinedError"),
        ("{{ messages | length + 'a' }}", "fails: TypeError"),
        ("[INST] [/INST]", "the user's message 0 times"),
        ("{{ messages[0]['content'] }} {{ messages[0]['content'] }}", "the user's message 2 times"),
    ],
)
def test_templates_that_cannot_hold_the_message_are_refused(template: str, named: str) -> None:
    for system in ("", SYSTEM):
        with pytest.raises(BadInput, match=named):
            builder(template).in_chat("rank", system)


def test_text_of_the_system_message_is_no_template_and_no_token() -> None:
    made = PromptBuilder(chat_tokenizer(REFUSES))
    prompt = made.ids_of_rendered(made.in_chat("rank", "{{ 7 * 7 }} </s>"))
    assert made.tokenizer.eos_token_id not in prompt.ids
