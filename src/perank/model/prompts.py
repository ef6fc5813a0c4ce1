"""Prompts as token ids with slots for vectors; training and inference share the code, so their ids are equal.

A prompt is rendered as pieces of text and slots. Special tokens are recognised only in the chat template's own text:
`<|im_end|>` or `</s>` in a query stays ordinary text. A slot is an integer position in the ids, never a token, so no
text can be mistaken for one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from perank.errors import BadInput
from perank.model.locate import EXCLUSIVE
from perank.model.templates import RankTemplate, template

SLOT = "\ufdd0"  # a Unicode noncharacter; removed from user input
QUERY_SLOT = "\ufdd1"
_USER = "\ufdd2"
_OURS = re.compile("[\ufdd0-\ufdd2]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids [L]; `slots` are the positions of the passages' vectors, in prompt order, `query_slot` the query's.

    The id at a slot is a placeholder: its embedding is overwritten.
    """

    ids: tuple[int, ...]
    slots: tuple[int, ...]
    query_slot: int | None = None

    def __len__(self) -> int:
        return len(self.ids)


class PromptBuilder:
    """Builds prompts of one template version for one tokenizer.

    `text_tokens` limits each passage's text in prompts with texts; texts are truncated further, evenly, if the prompt
    would exceed `max_length`. The instruction and the slots are never truncated. Raises `BadInput` if they alone are
    too long, and for lengths below 1. `query_slot` adds a slot for the query's vector, an extension: True before the
    query's words, "last" at the end of the prompt, where the first rank's hidden state is read.
    """

    def __init__(
        self,
        tokenizer: Any,
        version: str = "paper",
        *,
        query_slot: bool | str = False,
        max_length: int = 4096,
        text_tokens: int | None = None,
    ) -> None:
        if not isinstance(query_slot, bool) and query_slot != "last":
            remedy = "choose false, true (before the query's words) or last"
            raise BadInput(f"the query's slot is {query_slot!r}", remedy=remedy, id="prompt.query_slot")
        for name, value in {"max_length": max_length, "text_tokens": text_tokens}.items():
            if value is not None and value < 1:
                raise BadInput(f"{value} tokens", remedy="use 1 or more", id=f"prompt.{name}")
        self.tokenizer, self.version, self.max_length = tokenizer, version, max_length
        self.template: RankTemplate = template(version)
        self.query_slot, self.text_tokens = query_slot, text_tokens
        self._ids_of = lru_cache(maxsize=4096)(self._tokenise)
        self.stand_in = next(i for i in (tokenizer.unk_token_id, tokenizer.eos_token_id, 0) if i is not None)

    def __getstate__(self) -> dict[str, Any]:  # the cache can't be pickled
        return {key: value for key, value in self.__dict__.items() if key != "_ids_of"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._ids_of = lru_cache(maxsize=4096)(self._tokenise)

    def rank(self, query: str, n: int) -> Prompt:
        """The prompt of Table 8: n passages as vectors only."""
        return self._checked(self._rank(query, n, None), query)

    def rank_with_text(self, query: str, texts: Sequence[str]) -> Prompt:
        """The prompt of Table 9: every passage as its vector followed by its text."""
        cut = [self.cut(self.template.clean(text), self.text_tokens) for text in texts]
        prompt = self._rank(query, len(texts), cut)
        too_long = len(prompt) > self.max_length
        allowed = max((self.count(text) for text in cut), default=0) if too_long else 0
        while len(prompt) > self.max_length and allowed > 0:
            over = len(prompt) - self.max_length
            allowed -= max(1, over // max(1, len(texts)))
            cut = [self.cut(text, max(allowed, 0)) for text in cut]
            prompt = self._rank(query, len(texts), cut)
        return self._checked(prompt, query)

    def lengths_with_text(self, rows: Sequence[tuple[str, Sequence[str]]]) -> list[int]:
        """Return the tokens of a prompt with whole texts for each (query, texts), by one call of the tokenizer.

        They are those of `rank_with_text` without limits, and every text is tokenised once.
        """
        cleaned = [(query, [self.template.clean(text) for text in texts]) for query, texts in rows]
        specials = self.tokenizer.all_special_tokens
        runs = [_runs(self._rank_pieces(query, len(texts), texts), specials) for query, texts in cleaned]
        plain = list(dict.fromkeys(text for row in runs for text, special in row if _is_text(text, special)))
        ids = self.tokenizer(plain, add_special_tokens=False, split_special_tokens=True)["input_ids"] if plain else []
        length = dict(zip(plain, map(len, ids), strict=True))
        return [sum(length[text] if _is_text(text, special) else 1 for text, special in row) for row in runs]

    def chat(self, user: str, answer: str | None = None) -> Prompt:
        """Render a user message with slots in the chat template, up to the answer.

        With an `answer`, also that and the end-of-sequence token. The answer is tokenised together with the template's
        last text, so its first token may differ from that of the answer alone.
        """
        pieces = self.in_chat(user)
        if answer is not None:
            pieces += [(unmarked(answer), False), (self.tokenizer.eos_token, True)]
        return self.ids_of_rendered(pieces)

    def ids_of_rendered(self, pieces: Sequence[tuple[str, bool]]) -> Prompt:
        """Tokenise pieces of (text, whether to recognise special tokens in it), splitting at slots."""
        ids: list[int] = []
        slots: list[int] = []
        query_slot = None
        for text, special in _runs(pieces, self.tokenizer.all_special_tokens):
            if text in (SLOT, QUERY_SLOT):
                if text == SLOT:
                    slots.append(len(ids))
                else:
                    query_slot = len(ids)
                ids.append(self.stand_in)
            else:
                # Cache only short fragments: full texts rarely repeat.
                ids.extend(self._ids_of(text, special) if len(text) < 512 else self._tokenise(text, special))
        return Prompt(tuple(ids), tuple(slots), query_slot)

    def _rank(self, query: str, n: int, texts: Sequence[str] | None) -> Prompt:
        return self.ids_of_rendered(self._rank_pieces(query, n, texts))

    def _rank_pieces(self, query: str, n: int, texts: Sequence[str] | None) -> list[tuple[str, bool]]:
        shape, query = self.template, clean(query)
        if not query:
            raise BadInput("the query is empty", remedy="give it a text")
        texts = None if texts is None else [clean(text) for text in texts]
        before = QUERY_SLOT if self.query_slot is True else ""
        user = shape.message(query, n, slot=SLOT, texts=texts, query_slot=before)
        pieces = self.in_chat(user) if shape.chat else [(user, False)]
        return [*pieces, (QUERY_SLOT, False)] if self.query_slot == "last" else pieces

    def _checked(self, prompt: Prompt, query: str) -> Prompt:
        if len(prompt) > self.max_length:
            raise BadInput(
                f"the prompt takes {len(prompt)} tokens without any passage text to shorten, {self.max_length} fit",
                remedy="raise prompt.max_length, or use a smaller window or a shorter query",
                id=clean(query)[:60],
            )
        return prompt

    def in_chat(self, user: str, system: str = "", chat_template: str | None = None) -> list[tuple[str, bool]]:
        """The pieces of a chat with one user message, up to the answer, for `ids_of_rendered`.

        A `system` message goes first, if given; a template that has no such role gets it at the top of the user's
        message. `chat_template` replaces the tokenizer's own. Raises `BadInput` without a template, and for one that
        fails or loses the user's message.
        """
        turns = [{"role": "user", "content": _USER}]
        if system:
            try:
                before, after = self._rendered([{"role": "system", "content": system}, *turns], chat_template)
                if system.strip() in before + after:
                    return [(before, True), (user, False), (after, True)]
            except BadInput:
                pass  # tried again without that role
            user = f"{system}\n\n{user}"
        before, after = self._rendered(turns, chat_template)
        return [(before, True), (user, False), (after, True)]

    def _rendered(self, messages: list[dict[str, str]], chat_template: str | None) -> tuple[str, str]:
        """The template's text before and after the user's message."""
        if chat_template is None and not self.tokenizer.chat_template:
            remedy = "use an LLM tuned for chats, give its tokenizer a chat_template, or set prompt.version=compact"
            raise BadInput("the LLM's tokenizer has no chat template", remedy=remedy, id=self._tokenizer_name)
        options = {"add_generation_prompt": True, "tokenize": False, "chat_template": chat_template}
        try:
            rendered = self.tokenizer.apply_chat_template(messages, **options)
        except Exception as error:  # templates are programs: they raise whatever they like
            said = " ".join(str(error).split())[:200]
            problem = f"the chat template fails: {type(error).__name__}: {said}"
            remedy = "repair the tokenizer's chat_template, or set prompt.version=compact"
            raise BadInput(problem, remedy=remedy, id=self._tokenizer_name) from error
        if rendered.count(_USER) != 1:
            problem = f"the chat template has the user's message {rendered.count(_USER)} times"
            raise BadInput(problem, remedy="repair the tokenizer's chat_template", id=self._tokenizer_name)
        before, _, after = rendered.partition(_USER)
        return before, after

    @property
    def _tokenizer_name(self) -> str | None:
        return getattr(self.tokenizer, "name_or_path", None) or None

    def _tokenise(self, text: str, special: bool) -> tuple[int, ...]:
        if special:
            return (self.tokenizer.convert_tokens_to_ids(text),)
        with EXCLUSIVE:
            return tuple(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def count(self, text: str) -> int:
        """The number of tokens of a text."""
        return len(self._ids_of(text, False))

    def cut(self, text: str, tokens: int | None) -> str:
        """The longest prefix of `text` with at most `tokens` tokens, cut between tokens."""
        text = clean(text)
        if tokens is None or 4 * len(text) < tokens:  # no character has more than four bytes
            return text
        options = {"add_special_tokens": False, "split_special_tokens": True, "return_offsets_mapping": True}
        with EXCLUSIVE:
            spans = self.tokenizer(text, **options)["offset_mapping"]
        # Cut at the start of the first dropped token: a character of several tokens is dropped entirely.
        return text if len(spans) <= tokens else text[: spans[tokens][0]].rstrip()


def unmarked(text: str) -> str:
    """Remove the noncharacters used for slots."""
    return _OURS.sub("", text)


def clean(text: str) -> str:
    """Remove the noncharacters used for slots, and surrounding white space."""
    return unmarked(text).strip()


def _is_text(run: str, special: bool) -> bool:
    return not special and run not in (SLOT, QUERY_SLOT)


def _runs(pieces: Sequence[tuple[str, bool]], specials: Sequence[str]) -> list[tuple[str, bool]]:
    """Join adjacent text and split it at slots and recognised special tokens: (text, whether it is a special token)."""
    slots = [SLOT, QUERY_SLOT]
    marks = [re.escape(mark) for mark in sorted(specials, key=len, reverse=True)]
    runs: list[tuple[str, bool]] = []
    for text, special in pieces:
        parts = re.split(f"({'|'.join([*slots, *marks] if special else slots)})", text)
        for i, part in enumerate(parts):
            if i % 2:  # a separator
                runs.append((part, part not in slots))
            elif part and runs and not runs[-1][1] and runs[-1][0] not in slots:
                runs[-1] = (runs[-1][0] + part, False)
            elif part:
                runs.append((part, False))
    return runs
