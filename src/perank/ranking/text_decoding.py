"""Greedy decoding of texts by a local causal LM, with a KV cache, for many prompts at once.

The KV cache is that of PE-Rank's decoders: prompts have no padding before generated tokens, finished rows leave the
batch, and only a prompt's last position is projected onto the vocabulary. A text doesn't depend on the rest of the
batch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model import padded
from perank.ranking.decoder import Clock
from perank.ranking.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class DecodedTexts:
    """B texts, their numbers of tokens including end of sequence, and whether each reached it; the batch's seconds."""

    texts: list[str]
    tokens: list[int]
    ended: list[bool]
    seconds_prefill: float
    seconds_decode: float


class TextDecoder:
    """A causal LM and its tokenizer."""

    def __init__(self, llm: Any, tokenizer: Any) -> None:
        self.llm, self.tokenizer = llm, tokenizer
        ends = getattr(llm.generation_config, "eos_token_id", None)
        self.ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}

    @property
    def decoder(self) -> Any:
        """The transformer without its vocabulary head."""
        return self.llm.get_decoder()

    @property
    def device(self) -> torch.device:
        """The LLM's device."""
        return self.llm.get_input_embeddings().weight.device

    @property
    def positions(self) -> int:
        """The maximum sequence length of the LLM."""
        return getattr(self.decoder.config, "max_position_embeddings", None) or sys.maxsize

    @torch.no_grad()
    def write(
        self, prompts: Sequence[Sequence[int]], budgets: Sequence[int], enough: Callable[[int, str], bool]
    ) -> DecodedTexts:
        """Continue each prompt until end of sequence, `budgets[b]` tokens, or `enough(b, text so far)`.

        Raises `BadInput` for non-finite logits and for an LLM that `KVCache` doesn't support.
        """
        clock = Clock(self.device)
        lengths = [len(ids) for ids in prompts]
        cache = KVCache(self, max(length + budget for length, budget in zip(lengths, budgets, strict=True)))
        chosen = self._choose(self._read(cache, prompts))
        prefilled = clock.lap()
        written: list[list[int]] = [[] for _ in prompts]
        texts, rows = [""] * len(prompts), list(range(len(prompts)))
        while True:
            for b, token in zip(rows, chosen, strict=True):
                written[b].append(token)
                texts[b] = self.tokenizer.decode(written[b], skip_special_tokens=True)
            stay = [
                place
                for place, (b, token) in enumerate(zip(rows, chosen, strict=True))
                if token not in self.ends and len(written[b]) < budgets[b] and not enough(b, texts[b])
            ]
            if not stay:
                break
            if len(stay) < len(rows):
                cache.keep(torch.tensor(stay, device=self.device))
                rows = [rows[place] for place in stay]
            chosen = self._choose(self._feed(cache, written, lengths, rows))
        ended = [tokens[-1] in self.ends for tokens in written]
        return DecodedTexts(texts, [len(tokens) for tokens in written], ended, prefilled, clock.lap())

    @torch.no_grad()
    def next_logits(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """logits_BV of the first token after each prompt, in fp32 or wider. Raises what `write` raises."""
        return self._logits(self._read(KVCache(self, max(map(len, prompts))), prompts))

    def _read(self, cache: KVCache, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Read the prompts into the cache and return hidden_BD of their last tokens."""
        ids_BL = padded(prompts, 0).to(self.device)
        return cache.read(self.llm.get_input_embeddings()(ids_BL), [len(ids) for ids in prompts])

    def _logits(self, hidden_BD: Tensor) -> Tensor:
        head = self.llm.get_output_embeddings()
        logits_BV = head(hidden_BD.to(head.weight.dtype))
        if not bool(logits_BV.isfinite().all()):
            remedy = "run it in float32 or bfloat16, or check its weights"
            raise BadInput("the LLM's logits are not finite", remedy=remedy)
        return logits_BV.to(torch.promote_types(logits_BV.dtype, torch.float32))

    def _choose(self, hidden_BD: Tensor) -> list[int]:
        chosen: list[int] = self._logits(hidden_BD).argmax(dim=1).tolist()
        return chosen

    def _feed(self, cache: KVCache, written: list[list[int]], lengths: list[int], rows: list[int]) -> Tensor:
        """hidden_BD after the last generated token of each of `rows`."""
        entries = [lengths[b] + len(written[b]) - 1 for b in rows]
        ids_B1 = torch.tensor([[written[b][-1]] for b in rows], device=self.device)
        entry_B1 = torch.tensor(entries, device=self.device)[:, None]
        seen_B1M = torch.arange(max(entries) + 1, device=self.device) <= entry_B1[..., None]
        return cache.append(self.llm.get_input_embeddings()(ids_B1), entry_B1, entry_B1, seen_B1M)[:, 0]
