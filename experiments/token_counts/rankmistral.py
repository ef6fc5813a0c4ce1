"""RankMistral's prompt, passages as texts: as the authors run it, and as Table 10 prints it."""

from __future__ import annotations

from collections.abc import Sequence

from mistral_v1 import MistralV1

from perank.model.prompts import PromptBuilder, clean
from perank.model.templates import LISTWISE_HEAD, LISTWISE_LINE, LISTWISE_TAIL, template

# The run prompt departs from the table as PE-Rank's does: single line breaks, a period behind the query, another
# wording of the task, blank lines at the end.
RUN_HEAD = (
    "I will provide you with {n} passages.\nRank the passages based on their relevance to the search query: {query}.\n"
)
RUN_TAIL = (
    "Search Query: {query}.\nRank the {n} relatively ordered passages above based on their relevance to the search "
    "query, output the ranking in descending order. The output format should be [] > [] > ..., e.g., [4] > [2] > ..., "
    "Only respond with the ranking results with {n} unique numbers, do not say anything else or explain.\n\n"
)


def lengths(tokenizer: MistralV1, query: str, texts: Sequence[str]) -> dict[str, int]:
    """Tokens of the prompt with these passages, by the way of counting."""
    prompts = PromptBuilder(tokenizer, "reference")
    cleaned = [clean(template("reference").clean(text)) for text in texts]
    lines = "".join(LISTWISE_LINE.format(i=i, text=text) for i, text in enumerate(cleaned, start=1))
    ways = {"as run": (RUN_HEAD, RUN_TAIL), "the prompt as printed in Table 10": (LISTWISE_HEAD, LISTWISE_TAIL)}
    n = len(texts)
    return {
        way: len(prompts.chat(head.format(n=n, query=query) + lines + tail.format(n=n, query=query)))
        for way, (head, tail) in ways.items()
    }
