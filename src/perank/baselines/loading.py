"""Rankers described by the settings in conf/ranker/: the fields are the config keys, `load` builds the ranker.

Incomplete weights are refused: a classifier with a randomly initialised head would rank at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from perank.baselines.chat_api import ChatApi
from perank.baselines.cross_encoder import CrossEncoder
from perank.baselines.first_token import FirstToken
from perank.baselines.model_loading import causal, device_of, missing_is_absent, with_tokenizer
from perank.baselines.monot5 import MonoT5
from perank.baselines.pointwise import PairScorer, Pointwise
from perank.baselines.rankgpt import RankGPT
from perank.baselines.text_listwise import TextListwise
from perank.model import ListwisePrompts
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Candidates, Ranker, Ranking
from perank.saving.hub import from_pretrained
from perank.saving.saved_text_ranker import load_text_ranker
from perank.sources.views import TextView, text_view


@dataclass(frozen=True, kw_only=True)
class NamedRanker:
    """A `Ranker` that is loaded at construction, so missing weights raise `Absent` before anything is ranked."""

    def __post_init__(self) -> None:
        _ = self.ranker

    @cached_property
    def ranker(self) -> Any:
        """The loaded ranker."""
        return self.load()

    def load(self) -> Ranker:
        """Load the ranker that the fields describe."""
        raise NotImplementedError

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """Return one ranking per element of `batch`, in its order."""
        rankings: list[Ranking] = self.ranker.rank_batch(batch)
        return rankings


@dataclass(frozen=True, kw_only=True)
class LocalRanker(NamedRanker):
    """A ranker with local weights. `batch_tokens` limits the tokens of a batch (None: the ranker's default)."""

    dtype: str = "auto"
    device: str = "auto"
    batch_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class CrossEncoderRanker(LocalRanker):
    """monoBERT, the MiniLM cross-encoder, or any sequence classifier of (query, text)."""

    auto_class: ClassVar = "AutoModelForSequenceClassification"
    scorer: ClassVar[type[PairScorer]] = CrossEncoder

    name: str
    revision: str | None = None
    max_length: int = 512
    text: str = "contents"

    def load(self) -> Pointwise:
        model, tokenizer = with_tokenizer(self.auto_class, self.name, self.revision, self.dtype, self.device)
        scorer = self.scorer(model, tokenizer, max_length=self.max_length)
        return Pointwise(scorer, view=view_of(self.text), batch_tokens=self.batch_tokens)


@dataclass(frozen=True, kw_only=True)
class MonoT5Ranker(CrossEncoderRanker):
    """monoT5, or any T5 that answers true or false."""

    auto_class: ClassVar = "AutoModelForSeq2SeqLM"
    scorer: ClassVar[type[PairScorer]] = MonoT5


@dataclass(frozen=True, kw_only=True)
class WindowRanker(LocalRanker):
    """A sliding-window ranker. `window` and `step` of None use the saved model's settings, or 20 and 10."""

    window: Windows | None = None

    def windows(self, window: int = 20, step: int = 10) -> Windows:
        """The window settings, with these defaults."""
        return self.window or Windows(window, step)


@dataclass(frozen=True, kw_only=True)
class SavedReranker(WindowRanker):
    """A saved PE-Rank model (no `name`: the packaged one) that encodes passages while it ranks."""

    name: str | None = None
    decoder: str = "speculative"

    def load(self) -> Reranker:
        with missing_is_absent():
            found = from_pretrained(self.name, device=device_of(self.device), dtype=self.dtype)
        return Reranker(
            found.model,
            found.prompts,
            found.encoder,
            windows=self.windows(found.window, found.step),
            decoder=self.decoder,
            batch_tokens=self.batch_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class CausalRanker(WindowRanker):
    """A causal LM with the prompt template `prompt`; `text_tokens` limits the length of each passage's text."""

    name: str
    prompt: str
    revision: str | None = None
    max_length: int = 4096
    text_tokens: int | None = None
    text: str = "contents"

    def llm_and_prompts(self) -> tuple[Any, ListwisePrompts]:
        """Load the LLM and the prompt builder for its tokenizer."""
        llm, tokenizer = causal(self.name, self.revision, self.dtype, self.device)
        prompts = ListwisePrompts(tokenizer, self.prompt, max_length=self.max_length, text_tokens=self.text_tokens)
        return llm, prompts


@dataclass(frozen=True, kw_only=True)
class ListwiseRanker(CausalRanker):
    """RankMistral, RankVicuna, RankZephyr, or any causal LM with their prompts."""

    every_rank: bool = False

    def load(self) -> TextListwise:
        return TextListwise(
            *self.llm_and_prompts(),
            windows=self.windows(),
            view=view_of(self.text),
            every_rank=self.every_rank,
            batch_tokens=self.batch_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class FirstTokenRanker(CausalRanker):
    """FIRST, or any causal LM with its prompt."""

    prompt: str = "first"

    def load(self) -> FirstToken:
        view = view_of(self.text)
        return FirstToken(*self.llm_and_prompts(), windows=self.windows(), view=view, batch_tokens=self.batch_tokens)


@dataclass(frozen=True, kw_only=True)
class TrainedListwiseRanker(WindowRanker):
    """The `model/` folder of a `+experiment=rankmistral` run, with the text view and windows used in training."""

    name: str
    text: str | None = None
    every_rank: bool = False

    def load(self) -> TextListwise:
        with missing_is_absent():
            found = load_text_ranker(self.name, device=device_of(self.device), dtype=self.dtype)
        return TextListwise(
            found.llm,
            found.prompts,
            windows=self.windows(found.window, found.step),
            view=view_of(self.text or found.text),
            every_rank=self.every_rank,
            batch_tokens=self.batch_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class RankGPTRanker(NamedRanker):
    """RankGPT with any OpenAI-compatible endpoint; answers are cached, so reruns are free."""

    model: str
    base_url: str = ChatApi.base_url
    key_variable: str | None = ChatApi.key_variable
    concurrency: int = ChatApi.concurrency
    attempts: int = ChatApi.attempts
    timeout: float = ChatApi.timeout
    input_price: float = ChatApi.input_price
    output_price: float = ChatApi.output_price
    text: str = "contents"
    words: int = 300
    window: Windows | None = None

    def load(self) -> RankGPT:
        api = ChatApi(
            self.model,
            self.base_url,
            key_variable=self.key_variable,
            concurrency=self.concurrency,
            attempts=self.attempts,
            timeout=self.timeout,
            input_price=self.input_price,
            output_price=self.output_price,
        )
        return RankGPT(api, windows=self.window or Windows(), view=view_of(self.text), words=self.words)


def view_of(text: str) -> TextView:
    """`text_view`, raising `Absent` if its file is missing."""
    with missing_is_absent():
        return text_view(text)
