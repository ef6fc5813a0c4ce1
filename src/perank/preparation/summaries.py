"""Summarise passages in a sentence with greedy decoding by an instruction-tuned LLM, for RankMistral_s (Table 3).

The paper doesn't name the model and the prompt of its summaries; the instruction here is our own, and configurable.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from perank.errors import BadInput, check_least
from perank.files import write_json_lines
from perank.model import PromptBuilder
from perank.preparation.resumable import Resumable
from perank.preparation.set_statistics import spread
from perank.ranking.text_decoding import TextDecoder
from perank.records import Collection, Passage, Run

FIELD = "{text}"


class Summariser:
    """An LLM that summarises passages of up to `text_tokens` tokens in up to `tokens` tokens.

    A passage's summary doesn't depend on the rest of its batch. Raises `BadInput` for an instruction without
    `{text}` and for numbers below 1.
    """

    def __init__(
        self,
        llm: Any,
        prompts: PromptBuilder,
        *,
        instruction: str,
        tokens: int = 64,
        text_tokens: int = 512,
        batch_size: int = 16,
    ) -> None:
        check_least("preparation", 1, tokens=tokens, text_tokens=text_tokens, batch_size=batch_size)
        if FIELD not in instruction:
            remedy = f"add {FIELD} for the passage's text"
            raise BadInput("the instruction has no field for the passage", remedy=remedy, id="preparation.instruction")
        self.writer, self.prompts, self.instruction = TextDecoder(llm, prompts.tokenizer), prompts, instruction
        self.tokens, self.text_tokens, self.batch_size = tokens, text_tokens, batch_size

    def summaries(self, passages: Sequence[Passage]) -> list[dict[str, Any]]:
        """Return a record per passage, in order: `_id`, `text`, and whether it was `cut` at `tokens`.

        A passage without text has an empty summary. White space in a summary becomes single spaces.
        """
        prompts = {i: self._prompt(passage) for i, passage in enumerate(passages) if passage.contents.strip()}
        texts, cut = [""] * len(passages), [False] * len(passages)
        longest_first = sorted(prompts, key=lambda i: -len(prompts[i]))
        for start in range(0, len(longest_first), self.batch_size):
            chosen = longest_first[start : start + self.batch_size]
            budgets = [self.tokens] * len(chosen)
            written = self.writer.write([prompts[i] for i in chosen], budgets, lambda *_: False)
            for i, text, ended in zip(chosen, written.texts, written.ended, strict=True):
                texts[i], cut[i] = " ".join(text.split()), not ended
        return [
            {"_id": passage.id, "text": text, "cut": was_cut}
            for passage, text, was_cut in zip(passages, texts, cut, strict=True)
        ]

    def _prompt(self, passage: Passage) -> tuple[int, ...]:
        text = self.prompts.cut(passage.contents, self.text_tokens)
        return self.prompts.chat(self.instruction.replace(FIELD, text)).ids


def wanted(collection: Collection, run: Run | None) -> list[Passage]:
    """Return the passages to summarise, in the collection's order: all, or those of a first-stage run."""
    if run is None:
        return list(collection.passages.values())
    found = {id for scores in run.values() for id in scores}
    return [passage for id, passage in collection.passages.items() if id in found]


def write_summaries(
    passages: Sequence[Passage], summariser: Summariser, parts: Resumable, *, block: int = 256, progress: bool = True
) -> dict[str, Any]:
    """Create the missing blocks, and join all to the output, a JSONL file of `_id` and `text`.

    Returns counts: `passages`, `empty` and `cut` summaries, `characters`. Raises `BadInput` without passages.
    """
    from tqdm import tqdm

    check_least("preparation", 1, block=block)
    if not passages:
        raise BadInput("there are no passages to summarise", remedy="check the collection", path=parts.output)
    with tqdm(total=len(passages), desc="summaries", unit="passage", disable=not progress) as bar:
        for number, start in enumerate(range(0, len(passages), block)):
            taken, name = passages[start : start + block], f"summaries-{number:06d}.json"
            if not parts.has(name):
                parts.write(name, summariser.summaries(taken))
            bar.update(len(taken))
    records = chain.from_iterable(parts.read("summaries-"))
    write_json_lines(parts.output, ({"_id": record["_id"], "text": record["text"]} for record in records))
    counted = [(len(record["text"]), record["cut"]) for part in parts.read("summaries-") for record in part]
    lengths, cut = [length for length, _ in counted], sum(was_cut for _, was_cut in counted)
    return {"passages": len(lengths), "empty": lengths.count(0), "cut": cut, "characters": spread(lengths)}
