"""Initialise a model: its projector from a file, torch's default, or a sample of texts and their vectors.

`tokens` is the alignment stage's objective in closed form: the linear map that best predicts, from a text's vector, the
mean embedding of its distinct tokens, weighted by inverse document frequency. `isometry` keeps passages apart
without using the LLM. `queries` transposes the linear map from the LLM's last hidden state to the query's
vector, so that h . E_M(e) estimates the encoder's similarity before any training. `score_scale` is then set so that
scores have a standard deviation of about 1 among candidates: h . E_M(e) of a pretrained LLM is an order of magnitude
larger, and its softmax would start saturated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model import (
    AnchorSettings,
    PERank,
    Projector,
    PromptBatch,
    PromptBuilder,
    RankBatch,
    autocast_for,
    load_projector,
    ridge,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Passage texts with vectors [X, E], and queries with vectors [Q, E], or with other targets for what is read.

    `slot_QE` are the queries' own vectors, for prompts with a slot for them.
    """

    texts: Sequence[str]
    vectors_XE: Tensor
    queries: Sequence[str]
    vectors_QE: Tensor
    slot_QE: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorSettings:
    """The config group `projector`: `init` applies if no `path` is given, `sample` is the number of texts used.

    `scale` times the RMS of the LLM's token embeddings is that of projected vectors at first. Layers normalise what
    they read, so it decides how much of a vector stays in the residual stream at its own position. A `score_deviation`
    of None leaves `score_scale` at 1. Raises `BadInput` for values out of range.
    """

    init: str
    path: str | None
    score_deviation: float | None
    scale: float = 1.0
    sample: int = 2048

    def __post_init__(self) -> None:
        if self.init not in ("tokens", "isometry", "queries", "default"):
            remedy = "choose tokens, isometry, queries or default"
            raise BadInput(f"unknown projector.init {self.init!r}", remedy=remedy)
        if self.score_deviation is not None and self.score_deviation <= 0:
            remedy = "use a number above 0, or null for no scaling"
            raise BadInput(f"a deviation of {self.score_deviation}", remedy=remedy, id="projector.score_deviation")
        if not 0 < self.scale < math.inf:
            raise BadInput(f"a scale of {self.scale}", remedy="use a number above 0", id="projector.scale")
        if self.sample < 1:
            raise BadInput(f"a sample of {self.sample} texts", remedy="use 1 or more", id="projector.sample")


def started_model(
    llm: Any,
    prompts: PromptBuilder,
    settings: ProjectorSettings,
    *,
    width: int,
    anchors: AnchorSettings | None = None,
    sample: Callable[[], Sample],
) -> PERank:
    """Build PE-Rank for this LLM and encoder width E, on the LLM's device: a quantised one is loaded onto a GPU.

    Raises `BadInput` for a projector file of other widths.
    """
    projector = Projector(width, llm.get_input_embeddings().embedding_dim)
    model = PERank(llm, projector, anchors=anchors)
    projector.to(_device_of(model))
    model.score_scale = model.score_scale.to(_device_of(model))
    if settings.path is not None:
        load_projector(projector, settings.path)
    elif settings.init != "default":
        _fit(model, prompts, settings, sample())
    if settings.score_deviation is not None:
        _calibrate(model, prompts, sample(), settings.score_deviation)
    return model


def _fit(model: PERank, prompts: PromptBuilder, settings: ProjectorSettings, sample: Sample) -> None:
    embedding_VD = model.llm.get_input_embeddings().weight.detach().float().cpu()
    scale, init = settings.scale * float(embedding_VD.square().mean().sqrt()), settings.init
    targets_XD = _token_means(sample.texts, prompts.tokenizer, embedding_VD) if init == "tokens" else None
    model.projector.fit_(sample.vectors_XE, targets_XD, scale=scale)
    if init == "queries":
        for _ in range(2):  # again, because h depends on the projected passages in the prompt
            map_ED = _query_map(model, prompts, sample)
            centred_XE = sample.vectors_XE.double() - sample.vectors_XE.double().mean(0)
            model.projector.fit_(sample.vectors_XE, centred_XE @ map_ED, scale=scale)


def _token_means(texts: Sequence[str], tokenizer: Any, embedding_VD: Tensor) -> Tensor:
    """[X, D]: per text the mean embedding of its distinct tokens, weighted by inverse document frequency."""
    encoded = tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=256)["input_ids"]
    bags = [torch.tensor(sorted(set(ids)) or [0]) for ids in encoded]
    seen_V = torch.bincount(torch.cat(bags), minlength=len(embedding_VD))
    idf_V = torch.log((1 + len(texts)) / (1 + seen_V.float())) + 1e-3
    return torch.stack([(idf_V[bag] @ embedding_VD[bag]) / idf_V[bag].sum() for bag in bags])


def _query_map(model: PERank, prompts: PromptBuilder, sample: Sample, n: int = 20, batch: int = 32) -> Tensor:
    """[E, D]: the ridge regression from h to the query's vector, transposed, with the mean of h projected out.

    Otherwise the component shared by all queries would give each passage a score that doesn't depend on the query.
    """
    generator, count = torch.Generator().manual_seed(0), len(sample.queries)
    starts = range(0, count, batch)
    drawn = [torch.randint(len(sample.vectors_XE), (min(batch, count - s), n), generator=generator) for s in starts]
    hidden_QD = hidden_of(model, prompts, sample, torch.cat(drawn), batch=batch).double()
    mean_D = hidden_QD.mean(0)
    map_DE = ridge(hidden_QD - mean_D, sample.vectors_QE.double() - sample.vectors_QE.double().mean(0), strength=1e-2)
    map_DE -= torch.outer(mean_D, mean_D @ map_DE) / mean_D.square().sum()
    return map_DE.T


def hidden_of(model: PERank, prompts: PromptBuilder, sample: Sample, places_QN: Tensor, batch: int) -> Tensor:
    """h_1 [Q, D] of the sample's queries, shown its passages at `places_QN`, `batch` at a time."""
    found = []
    for start in range(0, len(sample.queries), batch):
        part = slice(start, start + batch)
        slot_BE = None if sample.slot_QE is None else sample.slot_QE[part]
        shown_BNE = sample.vectors_XE[places_QN[part]]
        found.append(first_hidden(model, prompts, sample.queries[part], shown_BNE, slot_BE))
    return torch.cat(found)


@torch.no_grad()
def first_hidden(
    model: PERank,
    prompts: PromptBuilder,
    queries: Sequence[str],
    vectors_BNE: Tensor,
    query_BE: Tensor | None = None,
) -> Tensor:
    """h_1 [B, D] in fp32 on the CPU: the hidden state before the first rank. `query_BE` fills the queries' slots."""
    place = _device_of(model)
    prompt = PromptBatch.of([prompts.rank(query, vectors_BNE.shape[1]) for query in queries]).to(place)
    with autocast_for(model, place):
        hidden_BD = model.read(prompt, vectors_BNE.to(place), None if query_BE is None else query_BE.to(place))
    return hidden_BD.float().cpu()


@torch.no_grad()
def _calibrate(model: PERank, prompts: PromptBuilder, sample: Sample, deviation: float, n: int = 16) -> None:
    """Set `score_scale` so that the LLM's scores have the standard deviation `deviation`, measured on a few queries."""
    rows = min(16, len(sample.queries), len(sample.vectors_XE) // n)
    if rows == 0:
        return
    batch = RankBatch(
        prompt=PromptBatch.of([prompts.rank(query, n) for query in sample.queries[:rows]]),
        vectors_BNE=sample.vectors_XE[: rows * n].view(rows, n, -1),
        candidates_BN=torch.ones(rows, n, dtype=torch.bool),
        order_BK=torch.arange(n).expand(rows, n),
        query_BE=None if sample.slot_QE is None else sample.slot_QE[:rows],
    ).to(_device_of(model))
    with autocast_for(model, _device_of(model)):
        (hidden_BKD,), projected_BND = model.step_states(batch, [batch.prompt])
    measured = float((hidden_BKD.float() @ projected_BND.float().mT).std(-1).mean())
    if math.isfinite(measured) and measured > 0:
        model.score_scale.fill_(deviation / measured)


def _device_of(model: PERank) -> torch.device:
    device: torch.device = model.llm.get_input_embeddings().weight.device
    return device
