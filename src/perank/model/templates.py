"""Prompt templates: Tables 7 to 10, as printed (`paper`), as in the authors' code (`reference`), and `compact`.

A template is text with fields: `{n}`, `{query}`, and in a passage line `{i}`, `{slot}`, `{text}`. `{slot}` marks a
passage's vector; `{query_slot}` the query's vector, if that extension is enabled. The reference version differs from
the printed one: slots are in brackets, a period follows the query, the closing instruction is worded differently, and
`[12]` inside a passage's text becomes `(12)`. `compact` uses few words and one token per passage, for small machines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perank.errors import BadInput


@dataclass(frozen=True, slots=True)
class RankTemplate:
    """A prompt in two forms: passages as vectors only (Table 8) or as vectors and texts (Table 9)."""

    head: str
    line: str
    tail: str
    head_with_text: str
    line_with_text: str
    chat: bool = True
    clean: Callable[[str], str] = str

    def message(
        self, query: str, n: int, *, slot: str, texts: Sequence[str] | None = None, query_slot: str = ""
    ) -> str:
        """The user's message: n passages, each a `slot` followed by its unmodified text if `texts` are given.

        `query_slot`, if any, precedes the query in the closing instruction.
        """
        head, line = (self.head, self.line) if texts is None else (self.head_with_text, self.line_with_text)
        passages = (line.format(i=i + 1, slot=slot, text="" if texts is None else texts[i]) for i in range(n))
        tail = self.tail.replace("{query}", f"{query_slot} {{query}}", 1) if query_slot else self.tail
        return _fill(head, n, query) + "".join(passages) + _fill(tail, n, query)


def _fill(part: str, n: int, query: str) -> str:
    return part.replace("{n}", str(n)).replace("{query}", query)


def round_brackets(text: str) -> str:
    """Replace `[12]` by `(12)`, as the authors do, so that no passage text looks like an identifier."""
    return re.sub(r"\[(\d+)\]", r"(\1)", text)


_INTRO = "I will provide you with {n} passages, each with a special token representing the passage enclosed in []"
_TASK = "Rank the passages based on their relevance to the search query: {query}"
_PAPER_TAIL = (
    "Search Query: {query}\n\nRank the {n} passages above based on their relevance to the search query in descending "
    "order. Only output the {n} unique special token in the ranking."
)
_REFERENCE_HEAD = f"{_INTRO}, followed by original text.\n{_TASK}.\n"  # the same with and without texts
_REFERENCE_TAIL = (
    "Search Query: {query}.\nRank the {n} relatively ordered passages above based on their relevance to the search "
    "query, output the ranking in descending order. Only output the {n} unique special token in the ranking.\n\n"
)

TEMPLATES = {
    "paper": RankTemplate(
        head=f"{_INTRO}.\n\n{_TASK}.\n\n",
        line="Passage {i}: {slot}\n\n",
        tail=_PAPER_TAIL,
        head_with_text=f"{_INTRO}, followed by the original text.\n\n{_TASK}.\n\n",
        line_with_text="Passage {i}: {slot} {text}\n\n",
    ),
    "reference": RankTemplate(
        head=_REFERENCE_HEAD,
        line="Passage {i}: [{slot}]\n\n",
        tail=_REFERENCE_TAIL,
        head_with_text=_REFERENCE_HEAD,
        line_with_text="Passage {i}: [{slot}] {text}\n\n",
        clean=round_brackets,
    ),
    "compact": RankTemplate(
        head="Passages:",
        line="{slot}",
        tail="\nQuery: {query}\nRanking:",
        head_with_text="Passages:",
        line_with_text="{slot} {text}\n",
        chat=False,
    ),
}

# Table 7: one of these, drawn at random, asks for the text behind an embedding (Eq. 2).
ALIGN_INSTRUCTIONS = (
    "Given the passage: {slot}, reconstruct the original text.",
    "Passage: {slot} means the same as",
    "Passage: {slot} Can you say the above text again?",
    "{slot} Please provide a reconstruction of the preceding passage.",
    "Passage: {slot} is about what?",
    "{slot} Could you give me a different version of the passage above?",
    "Passage: {slot} Please offer a restatement of the provided passage.",
    "Passage: {slot}, which means:",
)

# Table 10 (RankMistral): passages as text, the answer as identifiers. The table's second-to-last passage line shows
# an embedding slot, which is a misprint for a prompt with texts only.
LISTWISE_HEAD = (
    "I will provide you with {n} passages. Rank the passages based on their relevance to the search query: {query}.\n\n"
)
LISTWISE_LINE = "Passage {i}: {text}\n\n"
LISTWISE_TAIL = (
    "Search Query: {query}\n\nRank the {n} passages above based on their relevance to the search query in descending "
    "order. The output format should be [] > [] > ..., e.g., [4] > [2] > ... Only respond with the ranking results "
    "with {n} unique numbers, do not say anything else or explain."
)


def template(version: str) -> RankTemplate:
    """Return the template of that version. Raises `BadInput` if it is unknown."""
    if version not in TEMPLATES:
        raise BadInput(f"unknown prompt version {version!r}", remedy=f"choose one of {', '.join(TEMPLATES)}")
    return TEMPLATES[version]
