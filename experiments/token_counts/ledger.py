"""A prompt's tokens by the part of the prompt they belong to."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from perank.files import atomic_write
from perank.model.prompts import PromptBuilder


def parts(prompts: PromptBuilder, query: str, n: int) -> Iterator[tuple[str, str | None]]:
    """The rendered prompt as (part, text); None where a single token stands: `<s>` and the slots."""
    shape = prompts.template
    yield "<s>", None
    yield "[INST]", "[INST] "
    for where, text in (("before", shape.head), ("after", shape.tail)):
        if where == "after":
            for i in range(1, n + 1):
                opening, closing = shape.line.split("{slot}")
                line = f"passage lines with numbers of {len(str(i))} digits"
                yield line, opening.format(i=i)
                yield "slots", None
                yield line, closing
        instruction, asked = text.replace("{n}", str(n)).split("{query}")
        yield f"instruction {where} the passages", instruction
        yield f"query {where} the passages", query
        yield f"instruction {where} the passages", asked
    yield "[/INST]", " [/INST]"


def ledger(prompts: PromptBuilder, query: str, n: int) -> Counter[str]:
    """How many tokens each part of a prompt takes; a token belongs to the part its last character is in."""
    tokens: Counter[str] = Counter()
    stretch: list[tuple[str, str]] = []
    for part, text in [*parts(prompts, query, n), ("", None)]:
        if text is not None:
            stretch.append((part, text))
            continue
        owners = [owner for owner, written in stretch for _ in written.encode()]
        end = -1  # SentencePiece puts a blank in front of every stretch
        for piece in prompts.tokenizer.spelled(prompts.tokenizer("".join(w for _, w in stretch))["input_ids"]):
            end += 1 if piece.startswith("<0x") else len(piece.replace("▁", " ").encode())
            tokens[owners[max(end - 1, 0)]] += 1
        tokens[part] += bool(part)
        stretch = []
    del tokens[""]
    return tokens


def write_ledger(path: Path, prompts: PromptBuilder, queries: Sequence[str], sizes: Sequence[int]) -> None:
    """Tokens by part, means over the queries, for one window of each size; the last line sums them."""
    found = {n: [ledger(prompts, query, n) for query in queries] for n in sizes}
    names = list(dict.fromkeys(part for n in sizes for part in found[n][0]))
    with atomic_write(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["part", *(f"n={n}" for n in sizes)])
        for name in names:
            table.writerow([name, *(f"{fmean(tokens[name] for tokens in found[n]):.2f}" for n in sizes)])
        table.writerow(["sum", *(f"{fmean(tokens.total() for tokens in found[n]):.2f}" for n in sizes)])
