"""A tiny random LLM that writes nothing but identifiers, and collections of candidates for it."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Any

from perank.model.listwise_prompts import ListwisePrompts
from perank.records import Candidates, Passage, Query
from support import tiny

N = 20  # identifiers it knows


@lru_cache
def tokenizer() -> Any:
    """Words, `[1]` to `[20]` as prompts hold them, and `[1] >` to `[20] >` as answers do, each one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [f"[{i + 1}]" for i in range(N)]
    words = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *tiny.WORDS, "Query:", "Passages:", ">", *names]
    words += [f"{name} >" for name in names]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    made.chat_template = tiny.CHAT
    return made


def prompts(version: str = "compact", **options: Any) -> ListwisePrompts:
    return ListwisePrompts(tokenizer(), version, **options)


def llm(seed: int = 0, family: str = "llama", *, sure: bool = True, **options: Any) -> Any:
    """In fp64; unless it is `sure`, it may write any token."""
    defaults = {"tie_word_embeddings": False, "initializer_range": 0.5}
    special = {"max_position_embeddings": 1024, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    made = tiny.llm_of(family, len(tokenizer()), seed=seed, **special, **defaults | options).double()
    if sure:
        made.get_output_embeddings().weight.data[: len(tokenizer()) - N] = 0.0
    return made


def candidates(n: int, seed: int = 0) -> Candidates:
    """A query and n passages, all of random words."""
    dice = random.Random(f"{n}:{seed}")

    def text(size: int) -> str:
        return " ".join(dice.sample(tiny.WORDS, size))

    passages = tuple(Passage(f"p{i}", text(dice.randint(2, 9))) for i in range(n))
    return Candidates(Query(f"q{n}-{seed}", text(4)), passages)
