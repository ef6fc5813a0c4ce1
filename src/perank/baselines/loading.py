"""Rankers by their settings, as conf/ranker/ gives them: the fields are the keys, `load` makes the ranker.

Weights that aren't whole are refused: a classifier whose head would be made up at random ranks at random.
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
from perank.model.listwise_prompts import ListwisePrompts
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.records import Candidates, Ranker, Ranking
from perank.saving.hub import from_pretrained
from perank.saving.saved_text_ranker import load_text_ranker
from perank.sources.views import TextView, text_view


@dataclass(frozen=True, kw_only=True)
class NamedRanker:
    """A `Ranker` that is loaded when it is made: what isn't on this machine is `Absent` before anything is ranked."""

    def __post_init__(self) -> None:
        _ = self.ranker

    @cached_property
    def ranker(self) -> Any:
        """What ranks."""
        return self.load()

    def load(self) -> Ranker:
        """The ranker that the fields describe."""
        raise NotImplementedError

    def rank_batch(self, batch: Sequence[Candidates]) -> list[Ranking]:
        """One ranking per element of `batch`, in its order."""
        rankings: list[Ranking] = self.ranker.rank_batch(batch)
        return rankings


@dataclass(frozen=True, kw_only=True)
class LocalRanker(NamedRanker):
    """With weights on this machine. `batch_tokens` bounds what runs together (None: the ranker's own default)."""

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
    """Slides a window over the candidates; None: as the saved model says, or 20 and 10."""

    window: Windows | None = None

    def windows(self, window: int = 20, step: int = 10) -> Windows:
        """The windows, with these defaults."""
        return self.window or Windows(window, step)


@dataclass(frozen=True, kw_only=True)
class SavedReranker(WindowRanker):
    """A saved PE-Rank model that encodes passages while it ranks (`model=` looks them up instead).

    Without a `name` the one inside the package.
    """

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
    """A causal LM, asked in the words of `prompt`; `text_tokens` is the most a passage's text may take anyway."""

    name: str
    prompt: str
    revision: str | None = None
    max_length: int = 4096
    text_tokens: int | None = None
    text: str = "contents"

    def llm_and_prompts(self) -> tuple[Any, ListwisePrompts]:
        """The LLM, and prompts for its tokenizer."""
        llm, tokenizer = causal(self.name, self.revision, self.dtype, self.device)
        prompts = ListwisePrompts(tokenizer, self.prompt, max_length=self.max_length, text_tokens=self.text_tokens)
        return llm, prompts


@dataclass(frozen=True, kw_only=True)
class ListwiseRanker(CausalRanker):
    """RankMistral, RankVicuna, RankZephyr, or any causal LM asked in their words."""

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
    """FIRST, or any causal LM asked for one letter."""

    prompt: str = "first"

    def load(self) -> FirstToken:
        view = view_of(self.text)
        return FirstToken(*self.llm_and_prompts(), windows=self.windows(), view=view, batch_tokens=self.batch_tokens)


@dataclass(frozen=True, kw_only=True)
class TrainedListwiseRanker(WindowRanker):
    """The `model/` folder of a run of `+experiment=rankmistral`; view and windows are those it was trained with."""

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
    """RankGPT over any OpenAI-compatible endpoint; answers are kept in the cache, so that a rerun is free."""

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
    """`text_view`, whose file may be absent too."""
    with missing_is_absent():
        return text_view(text)
