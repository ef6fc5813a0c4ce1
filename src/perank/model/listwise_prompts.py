"""Prompts of the listwise rerankers that read texts and write identifiers: templates and token ids.

RankMistral's is Table 10, as printed and as in the authors' code (token counts of Tables 3 and 6 agree with the
latter). RankVicuna, RankZephyr and FIRST have those of their papers' code. `compact` is for small machines. Texts are
truncated evenly, and counted, if a prompt would be too long; the instruction is never truncated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perank.errors import BadInput
from perank.model.prompts import Prompt, PromptBuilder, clean
from perank.model.templates import LISTWISE_HEAD, LISTWISE_LINE, LISTWISE_TAIL, round_brackets


@dataclass(frozen=True, slots=True)
class ListwiseTemplate:
    """`head` and `tail` with `{n}` and `{query}`, `line` with `{i}` and `{text}`; identifiers are numbers or letters.

    `chat_template` replaces the tokenizer's if the model was trained with another. `opening` is the start of the
    answer that the prompt already contains.
    """

    head: str
    line: str
    tail: str
    system: str = ""
    chat: bool = True
    chat_template: str | None = None
    opening: str = ""
    letters: bool = False
    clean: Callable[[str], str] = round_brackets

    def identifier(self, position: int) -> str:
        """The identifier of passage `position` (from 0)."""
        return chr(ord("A") + position) if self.letters else str(position + 1)

    def message(self, query: str, texts: Sequence[str]) -> str:
        """The user's message, with the full texts."""
        n = str(len(texts))
        head, tail = (part.replace("{n}", n).replace("{query}", query) for part in (self.head, self.tail))
        return head + "".join(self.line.format(i=self.identifier(i), text=t) for i, t in enumerate(texts)) + tail

    def answer(self, order: Sequence[int]) -> str:
        """The ranking as text: `[4] > [2] > ...`."""
        return ("" if self.chat else " ") + " > ".join(f"[{self.identifier(position)}]" for position in order)


def _one_line(text: str) -> str:
    return round_brackets(" ".join(text.split()))


_RUN_TAIL = (
    "Search Query: {query}.\nRank the {n} relatively ordered passages above based on their relevance to the search "
    "query, output the ranking in descending order. The output format should be [] > [] > ..., e.g., [4] > [2] > ..., "
    "Only respond with the ranking results with {n} unique numbers, do not say anything else or explain.\n\n"
)
_LINE = "[{i}] {text}\n"
_RANK_LLM_HEAD = (
    "I will provide you with {n} passages, each indicated by a numerical identifier []. Rank the passages based on "
    "their relevance to the search query: {query}.\n\n"
)
_RANK_LLM_TAIL = (
    "Search Query: {query}.\nRank the {n} passages above based on their relevance to the search query. All the "
    "passages should be included and listed using identifiers, in descending order of relevance. The output format "
    "should be [] > [], e.g., [4] > [2], Only respond with the ranking results, do not say any word or explain."
)
_SYSTEM = "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"
_VICUNA_CHAT = (
    "{{ bos_token }}A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: {{ messages[0]['content'] }} ASSISTANT:"
)
_ZEPHYR_CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{{ '<|assistant|>\n' }}"
)
_ZEPHYR = ListwiseTemplate(
    head=_RANK_LLM_HEAD,
    line=_LINE,
    tail=_RANK_LLM_TAIL.replace("[4] > [2]", "[2] > [1]"),
    system=_SYSTEM,
    chat_template=_ZEPHYR_CHAT,
    clean=_one_line,
)
_LETTERED_HEAD = _RANK_LLM_HEAD.replace("a numerical", "a alphabetical")  # "a alphabetical" as in FIRST's code

LISTWISE_TEMPLATES = {
    "rankmistral": ListwiseTemplate(
        head=LISTWISE_HEAD.replace("passages. Rank", "passages.\nRank").replace("\n\n", "\n"),
        line=LISTWISE_LINE,
        tail=_RUN_TAIL,
    ),
    "table10": ListwiseTemplate(head=LISTWISE_HEAD, line=LISTWISE_LINE, tail=LISTWISE_TAIL),
    "rankvicuna": ListwiseTemplate(
        head=_RANK_LLM_HEAD, line=_LINE, tail=_RANK_LLM_TAIL, chat_template=_VICUNA_CHAT, clean=_one_line
    ),
    "rankzephyr": _ZEPHYR,
    "first": replace(
        _ZEPHYR, head=_LETTERED_HEAD, tail=_ZEPHYR.tail.replace("[2] > [1]", "[B] > [A]"), opening="[", letters=True
    ),
    "compact": ListwiseTemplate(
        head="Passages:\n", line=_LINE, tail="Query: {query}\nRanking:", chat=False, clean=_one_line
    ),
}


@dataclass(frozen=True, slots=True)
class ListwisePrompt:
    """Token ids up to the answer, the number of `shortened` (truncated) texts, and the user's `message`."""

    ids: tuple[int, ...]
    shortened: int
    message: str


class ListwisePrompts:
    """Builds the prompts of one template for one tokenizer, of at most `max_length` tokens.

    `text_tokens` limits the length of each passage's text. Raises `BadInput` for an unknown template.
    """

    def __init__(
        self, tokenizer: Any, version: str = "rankmistral", *, max_length: int = 4096, text_tokens: int | None = None
    ) -> None:
        if version not in LISTWISE_TEMPLATES:
            remedy = f"choose one of {', '.join(LISTWISE_TEMPLATES)}"
            raise BadInput(f"unknown listwise prompt {version!r}", remedy=remedy)
        self.builder, self.version = PromptBuilder(tokenizer), version
        self.template, self.max_length, self.text_tokens = LISTWISE_TEMPLATES[version], max_length, text_tokens

    def rank(self, query: str, texts: Sequence[str], *, within: int | None = None) -> ListwisePrompt:
        """Build the prompt for these texts, of at most `within` tokens (None: `max_length`).

        If it is too long, all texts get the same maximum length, so the longest are truncated first. Raises `BadInput`
        for an empty query, and if the instruction alone is too long.
        """
        query, shape, most = clean(query), self.template, self.max_length if within is None else within
        if not query:
            raise BadInput("the query is empty", remedy="give it a text")
        whole = [clean(shape.clean(text)) for text in texts]
        cut = [self.builder.cut(text, self.text_tokens) for text in whole]
        ids = self._ids(query, cut)
        if len(ids) > most:
            lengths = [self.builder.count(text) for text in cut]
            room = most - len(self._ids(query, [""] * len(texts)))
            allowed = _evenly(lengths, room)
            while len(ids) > most and allowed >= 0:
                cut = [self.builder.cut(text, allowed) for text in cut]
                ids = self._ids(query, cut)
                allowed -= 1
        if len(ids) > most:
            problem = f"the prompt takes {len(ids)} tokens without any passage text, {most} fit with the answer"
            raise BadInput(problem, remedy="use a smaller window or a larger max_length", id=query[:60])
        shortened = sum(a != b for a, b in zip(cut, whole, strict=True))
        return ListwisePrompt(ids, shortened, shape.message(query, cut))

    def answer(self, prompt: ListwisePrompt, order: Sequence[int]) -> tuple[int, ...]:
        """The ids of a ranking after that prompt, including end of sequence: the training target.

        It is tokenised together with the prompt, as in a chat, unless that would change the prompt's ids.
        """
        text = self.template.answer(order)
        whole = self.render(prompt.message, text).ids
        if whole[: len(prompt.ids)] == prompt.ids:
            return whole[len(prompt.ids) :]
        return self.builder.ids_of_rendered([(text, False), (self.builder.tokenizer.eos_token, True)]).ids

    def answer_tokens(self, n: int) -> int:
        """The number of tokens of a ranking of n passages, including end of sequence."""
        return self.builder.count(self.template.answer(range(n))) + 1

    def _ids(self, query: str, texts: Sequence[str]) -> tuple[int, ...]:
        return self.render(self.template.message(query, texts)).ids

    def render(self, user: str, answer: str | None = None) -> Prompt:
        """Render the chat up to the answer; with an `answer`, also that and the end-of-sequence token.

        Message and answer are tokenised as one text if the template puts no special token between them.
        """
        shape, builder = self.template, self.builder
        pieces = builder.in_chat(user, shape.system, shape.chat_template) if shape.chat else [(user, False)]
        pieces.append((shape.opening if answer is None else answer, False))
        if answer is not None:
            pieces.append((builder.tokenizer.eos_token, True))
        return builder.ids_of_rendered(pieces)


def _evenly(lengths: Sequence[int], room: int) -> int:
    """The largest c for which the texts, truncated to c tokens each, take at most `room` tokens; 0 if none does."""
    left, cap = room, 0
    for i, length in enumerate(sorted(lengths)):
        cap = max(0, left) // (len(lengths) - i)
        if length > cap:
            return cap
        left -= length
    return max(lengths, default=cap)
