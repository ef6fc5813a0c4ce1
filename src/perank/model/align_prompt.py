"""Stage 1's sequence: an instruction with slots, the text to reconstruct, end of sequence (Eq. 2 and 3, Table 7).

Prompt and answer are tokenised as one text, as in the authors' code, because the LLM was trained on such chats:
Mistral's tokenizer has no word boundary after `[/INST]`. The prompt's ids must still equal those of inference. If a
byte-level tokenizer would merge the answer's first characters with the prompt's last (`]` and `[12]`), a space is
inserted before the answer; the authors do so for every answer that starts with `[`.
"""

from __future__ import annotations

from perank.errors import BadInput
from perank.model.prompts import Prompt, PromptBuilder, unmarked


def align_example(
    builder: PromptBuilder, instruction: str, text: str, *, text_tokens: int | None = None
) -> tuple[Prompt, tuple[int, ...]]:
    """Build the prompt from an `instruction` with `SLOT`s, and the answer's ids, which end with end of sequence.

    Answers are truncated to `text_tokens` tokens and to the builder's `max_length`; a truncated answer has no
    end-of-sequence token. Raises `BadInput` if the instruction alone is too long.
    """
    prompt = builder.chat(instruction)
    room = builder.max_length - len(prompt)
    if room < 1:
        raise BadInput(
            f"the instruction takes {len(prompt)} tokens, {builder.max_length} fit with the answer",
            remedy="raise prompt.max_length or shorten the instruction",
            id=instruction[:60],
        )
    answer = _answer(builder, prompt, instruction, text)
    longest = room if text_tokens is None else min(room, text_tokens)
    if len(answer) > room or len(answer) - 1 > longest:
        answer = answer[:longest]
    return prompt, answer


def _answer(builder: PromptBuilder, prompt: Prompt, instruction: str, text: str) -> tuple[int, ...]:
    spaced = [" " + text] if text.startswith("[") else [text, " " + text]
    for answer in spaced:
        whole = builder.chat(instruction, answer)
        if whole.ids[: len(prompt)] == prompt.ids:
            return whole.ids[len(prompt) :]
    # Both variants merge with the prompt, so the answer is tokenised separately.
    return builder.ids_of_rendered([(unmarked(text), False), (builder.tokenizer.eos_token, True)]).ids
