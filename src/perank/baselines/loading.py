"""The systems by their settings: what conf/ranker/ names. Every function loads weights and gives a `Ranker`.

Weights that aren't whole are refused: a classifier whose head would be made up at random ranks at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perank.baselines.cross_encoder import CrossEncoder
from perank.baselines.first_token import FirstToken
from perank.baselines.listwise import TextListwise
from perank.baselines.monot5 import MonoT5
from perank.baselines.pointwise import Pointwise
from perank.errors import Absent, BadInput
from perank.model.encoder_weights import reading
from perank.model.hub import from_pretrained
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.llm import LLM
from perank.model.precision import dtype_of
from perank.model.text_saved import load_text_ranker
from perank.model.weights import locate
from perank.rerank.reranker import Reranker
from perank.rerank.window import Windows
from perank.sources.views import text_view


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

    model, tokenizer = _loaded(AutoModelForSequenceClassification, name, revision, dtype, device)
    scorer = CrossEncoder(model, tokenizer, max_length=max_length)
    return Pointwise(scorer, view=text_view(text), batch_tokens=batch_tokens)


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

    model, tokenizer = _loaded(AutoModelForSeq2SeqLM, name, revision, dtype, device)
    scorer = MonoT5(model, tokenizer, max_length=max_length)
    return Pointwise(scorer, view=text_view(text), batch_tokens=batch_tokens)


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
    llm, prompts = _causal(name, revision, dtype, device, prompt, max_length, text_tokens)
    return TextListwise(
        llm,
        prompts,
        windows=Windows(window, step),
        cutoff=cutoff,
        view=text_view(text),
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
    with _fetching():
        found = load_text_ranker(name, device=device_of(device), dtype=dtype)
    return TextListwise(
        found.llm,
        found.prompts,
        windows=Windows(window or found.window, step or found.step),
        cutoff=cutoff,
        view=text_view(text or found.text),
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
    llm, prompts = _causal(name, revision, dtype, device, prompt, max_length, text_tokens)
    return FirstToken(
        llm,
        prompts,
        windows=Windows(window, step),
        cutoff=cutoff,
        view=text_view(text),
        batch_tokens=batch_tokens,
    )


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
    with _fetching():
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


@contextmanager
def _fetching() -> Iterator[None]:
    """Around loading weights: what goes wrong is that they aren't here, or not whole."""
    try:
        yield
    except Absent:
        raise
    except BadInput as error:
        raise Absent(error.problem, remedy=error.remedy, path=error.path, line=error.line, id=error.id) from error


def device_of(name: str) -> str:
    """`auto` is an accelerator where there is one."""
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _causal(
    name: str, revision: str | None, dtype: str, device: str, prompt: str, max_length: int, text_tokens: int | None
) -> tuple[Any, ListwisePrompts]:
    place = device_of(device)
    settings = LLM(name=name, revision=revision, dtype=str(dtype_of(dtype, place)).removeprefix("torch."))
    with _fetching():
        tokenizer, llm = settings.tokenizer(), settings.load()
    prompts = ListwisePrompts(tokenizer, prompt, max_length=max_length, text_tokens=text_tokens)
    return llm.to(place).eval().requires_grad_(False), prompts


def _loaded(kind: Any, name: str, revision: str | None, dtype: str, device: str) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    place = device_of(device)
    with _fetching():
        path = locate(name)
    with _fetching(), reading(path):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision or "main")
        model, found = kind.from_pretrained(
            path, revision=revision or "main", dtype=dtype_of(dtype, place), output_loading_info=True
        )
    if found["missing_keys"]:
        problem = f"its weights lack {', '.join(sorted(found['missing_keys'])[:3])}"
        raise Absent(problem, remedy="use weights that were trained for this", id=name)
    return model.to(place).eval().requires_grad_(False), tokenizer
