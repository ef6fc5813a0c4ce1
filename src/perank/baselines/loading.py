"""The systems by their settings: what conf/ranker/ names. Every function loads weights and gives a `Ranker`.

Weights that aren't whole are refused: a classifier whose head would be made up at random ranks at random.
"""

from __future__ import annotations

from perank.baselines.chat_api import ChatApi
from perank.baselines.cross_encoder import CrossEncoder
from perank.baselines.first_token import FirstToken
from perank.baselines.model_loading import causal, device_of, fetching, loaded, view_of
from perank.baselines.monot5 import MonoT5
from perank.baselines.pointwise import Pointwise
from perank.baselines.rankgpt import RankGPT
from perank.baselines.text_listwise import TextListwise
from perank.ranking.reranker import Reranker
from perank.ranking.windows import Windows
from perank.saving.hub import from_pretrained
from perank.saving.saved_text_ranker import load_text_ranker


def cross_encoder(
    *,
    name: str,
    revision: str | None = None,
    max_length: int = 512,
    text: str = "contents",
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
) -> Pointwise:
    """monoBERT, the MiniLM cross-encoder, or any sequence classifier of (query, text)."""
    from transformers import AutoModelForSequenceClassification

    model, tokenizer = loaded(AutoModelForSequenceClassification, name, revision, dtype, device)
    scorer = CrossEncoder(model, tokenizer, max_length=max_length)
    return Pointwise(scorer, view=view_of(text), batch_tokens=batch_tokens)


def monot5(
    *,
    name: str,
    revision: str | None = None,
    max_length: int = 512,
    text: str = "contents",
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
) -> Pointwise:
    """monoT5, or any T5 that answers true or false."""
    from transformers import AutoModelForSeq2SeqLM

    model, tokenizer = loaded(AutoModelForSeq2SeqLM, name, revision, dtype, device)
    scorer = MonoT5(model, tokenizer, max_length=max_length)
    return Pointwise(scorer, view=view_of(text), batch_tokens=batch_tokens)


def listwise(
    *,
    name: str,
    prompt: str,
    revision: str | None = None,
    max_length: int = 4096,
    text_tokens: int | None = None,
    text: str = "contents",
    window: int = 20,
    step: int = 10,
    cutoff: int | None = None,
    every_rank: bool = False,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
) -> TextListwise:
    """RankMistral, RankVicuna, RankZephyr, or any causal LM asked in their words."""
    llm, prompts = causal(name, revision, dtype, device, prompt, max_length, text_tokens)
    return TextListwise(
        llm,
        prompts,
        windows=Windows(window, step),
        cutoff=cutoff,
        view=view_of(text),
        every_rank=every_rank,
        batch_tokens=batch_tokens,
    )


def trained_listwise(
    *,
    name: str,
    text: str | None = None,
    window: int | None = None,
    step: int | None = None,
    cutoff: int | None = None,
    every_rank: bool = False,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
) -> TextListwise:
    """The `model/` folder of a run of `+experiment=rankmistral`; views and windows are those it was trained with."""
    with fetching():
        found = load_text_ranker(name, device=device_of(device), dtype=dtype)
    return TextListwise(
        found.llm,
        found.prompts,
        windows=Windows(window or found.window, step or found.step),
        cutoff=cutoff,
        view=view_of(text or found.text),
        every_rank=every_rank,
        batch_tokens=batch_tokens,
    )


def first_token(
    *,
    name: str,
    prompt: str = "first",
    revision: str | None = None,
    max_length: int = 4096,
    text_tokens: int | None = None,
    text: str = "contents",
    window: int = 20,
    step: int = 10,
    cutoff: int | None = None,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
) -> FirstToken:
    """FIRST, or any causal LM asked for one letter."""
    llm, prompts = causal(name, revision, dtype, device, prompt, max_length, text_tokens)
    return FirstToken(
        llm,
        prompts,
        windows=Windows(window, step),
        cutoff=cutoff,
        view=view_of(text),
        batch_tokens=batch_tokens,
    )


def rankgpt(
    *,
    model: str,
    base_url: str = "https://api.openai.com/v1",
    key_variable: str | None = "OPENAI_API_KEY",
    concurrency: int = 8,
    attempts: int = 6,
    timeout: float = 120.0,
    input_price: float = 0.0,
    output_price: float = 0.0,
    text: str = "contents",
    words: int = 300,
    window: int = 20,
    step: int = 10,
    cutoff: int | None = None,
) -> RankGPT:
    """RankGPT over any OpenAI-compatible endpoint; answers are kept in the cache, so that a rerun is free."""
    api = ChatApi(
        model,
        base_url,
        key_variable=key_variable,
        concurrency=concurrency,
        attempts=attempts,
        timeout=timeout,
        input_price=input_price,
        output_price=output_price,
    )
    return RankGPT(api, windows=Windows(window, step), cutoff=cutoff, view=view_of(text), words=words)


def pe_rank(
    *,
    name: str | None = None,
    window: int | None = None,
    step: int | None = None,
    cutoff: int | None = None,
    decoder: str = "speculative",
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
) -> Reranker:
    """A saved PE-Rank model that encodes passages while it ranks (`model=` looks them up instead).

    Without a `name` the one inside the package.
    """
    with fetching():
        found = from_pretrained(name, device=device_of(device), dtype=dtype)
    windows = Windows(window or found.window, step or found.step)
    return Reranker(
        found.model,
        found.prompts,
        found.encoder,
        windows=windows,
        decoder=decoder,
        cutoff=cutoff,
        batch_tokens=batch_tokens,
    )
