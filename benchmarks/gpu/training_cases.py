"""What `train_step.py` trains: stages and strategies at the paper's sizes, with as many layers as the card holds."""

from __future__ import annotations

import pydoc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from random_ranker import TINY, WIDTH

from perank.files import CONF_DIR
from perank.model.align_prompt import align_example
from perank.model.batches import IGNORE, AlignBatch, PromptBatch, RankBatch, padded
from perank.model.encoders.encoder import Encoder
from perank.model.llm import LLMSettings
from perank.model.lora import Lora
from perank.model.losses import RankLoss
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.model.prompts import SLOT, Prompt, PromptBuilder
from perank.model.templates import ALIGN_INSTRUCTIONS
from perank.planning.plan import Gpu, Rows, RunPlan, plan_of
from perank.planning.sequence_lengths import StandInTokenizer, align_length, rank_lengths
from perank.planning.shapes import encoder_on_meta, llm_of_shape, llm_on_meta, model_on_meta
from perank.training.align import AlignModule
from perank.training.optimizer import AdamW
from perank.training.rank import RankModule

_LAYERS = (32, 24, 16, 12, 8, 4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows of a micro-batch, and the tokens of a passage: 95 is the mean of MS MARCO's in the paper's Table 3."""

    name: str = "mistralai/Mistral-7B-Instruct-v0.2"
    candidates: int = 20
    passage_tokens: int = 95
    text_tokens: int = 512

    @classmethod
    def tiny(cls, folder: Path) -> Sizes:
        """For a CPU: the config of a small Mistral in `folder`."""
        from transformers import MistralConfig

        MistralConfig(vocab_size=400, num_key_value_heads=2, **TINY).save_pretrained(folder)
        return cls(name=str(folder), candidates=3, passage_tokens=4, text_tokens=16)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A stage with the LLM's settings, a micro-batch and the name of a file in conf/trainer."""

    name: str
    stage: str
    llm: Mapping[str, Any]
    rows: int
    trainer: str

    def settings(self, sizes: Sizes, layers: int) -> LLMSettings:
        """The LLM with so many layers."""
        return LLMSettings(name=sizes.name, num_layers=layers, **self.llm)

    def plan(self, sizes: Sizes, layers: int, gpu: Gpu) -> RunPlan:
        """The doctor's opinion of it."""
        settings, encoder = self.settings(sizes, layers), encoder_on_meta(Encoder("jinaai/jina-embeddings-v2-base-en"))
        module = self.module(model_on_meta(llm_on_meta(settings), WIDTH))
        rows = Rows(self.rows, self.lengths(sizes), None, 1, vocabulary=self.stage == "align")
        return plan_of(module.model, encoder, settings, rows, trainer_settings(self.trainer), gpu)

    def largest(self, sizes: Sizes, gpu: Gpu, most: int) -> RunPlan | None:
        """The plan with the most layers that fits, or None."""
        plans = (self.plan(sizes, layers, gpu) for layers in _LAYERS if layers <= most)
        return next((plan for plan in plans if plan.fits), None)

    def lengths(self, sizes: Sizes) -> list[int]:
        """Tokens of a row's sequences."""
        tokens = {"passage_tokens": sizes.passage_tokens}
        if self.stage == "align":
            return [align_length(_prompts(), text_tokens=sizes.text_tokens, **tokens)]
        return rank_lengths(_prompts(), candidates=sizes.candidates, steps=None, texts=True, query_tokens=8, **tokens)

    def model(self, sizes: Sizes, layers: int, device: torch.device) -> PERank:
        """Create it with random weights on the device."""
        llm = llm_of_shape(self.settings(sizes, layers), str(device))
        return PERank(llm, Projector(WIDTH, llm.config.hidden_size).to(device))

    def module(self, model: PERank) -> Any:
        """The LightningModule of the stage."""
        optimizer = AdamW(lr=1e-6)
        return AlignModule(model, optimizer) if self.stage == "align" else RankModule(model, RankLoss(), optimizer)

    def batch(self, sizes: Sizes) -> AlignBatch | RankBatch:
        """A micro-batch of rows of typical lengths."""
        return _align_batch(self.rows, sizes) if self.stage == "align" else _rank_batch(self.rows, sizes)

    def with_batch(self, rows: int) -> Case:
        """The same with other rows."""
        return replace(self, rows=rows)


def cases() -> list[Case]:
    """In order of what they are worth: a short lease measures the first ones."""
    adapters = {"dtype": "bfloat16", "lora": Lora(r=8, alpha=16, dropout=0.05, targets=("q_proj", "v_proj"))}
    full = {"dtype": "float32", "gradient_checkpointing": True}
    frozen = {"dtype": "bfloat16", "gradient_checkpointing": True}
    checkpointed = {**adapters, "gradient_checkpointing": True}
    half = {**full, "dtype": "bfloat16"}  # DeepSpeed keeps fp32 copies of its own
    return [
        Case(name="rank, LoRA", stage="rank", llm=checkpointed, rows=4, trainer="gpu"),
        Case(name="align, checkpointing", stage="align", llm=frozen, rows=32, trainer="gpu"),
        Case(name="rank, every weight", stage="rank", llm=full, rows=4, trainer="gpu"),
        Case(name="rank, every weight, FSDP", stage="rank", llm=full, rows=4, trainer="fsdp"),
        Case(name="rank, every weight, ZeRO-2", stage="rank", llm=half, rows=4, trainer="deepspeed_zero2"),
        Case(name="align, no checkpointing", stage="align", llm={"dtype": "bfloat16"}, rows=32, trainer="gpu"),
    ]


def trainer_settings(name: str) -> dict[str, Any]:
    """A trainer of conf/, on one device, without Hydra."""
    found: dict[str, Any] = yaml.safe_load((CONF_DIR / "trainer" / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: found.get(key) for key in ("strategy", "precision", "plugins")} | {"devices": 1}


def instantiated(node: Any) -> Any:
    """What the `_target_`s of a setting describe."""
    if isinstance(node, list):
        return [instantiated(item) for item in node]
    if not isinstance(node, dict):
        return node
    settings = {key: instantiated(value) for key, value in node.items() if key != "_target_"}
    return pydoc.locate(node["_target_"])(**settings) if "_target_" in node else settings  # type: ignore[operator]


def _prompts() -> PromptBuilder:
    return PromptBuilder(StandInTokenizer(), "reference")


def _vectors(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, WIDTH), dim=-1)


def _rank_batch(rows: int, sizes: Sizes) -> RankBatch:
    prompts, n = _prompts(), sizes.candidates
    content = prompts.rank_with_text("the " * 8, ["the " * sizes.passage_tokens] * n)
    return RankBatch(
        PromptBatch.of([prompts.rank("the " * 8, n)] * rows),
        _vectors(rows, n),
        torch.ones(rows, n, dtype=torch.bool),
        torch.stack([torch.randperm(n) for _ in range(rows)]),
        content=PromptBatch.of([content] * rows),
    )


def _align_batch(rows: int, sizes: Sizes) -> AlignBatch:
    user = ALIGN_INSTRUCTIONS[0].format(slot=SLOT)
    text = "the " * sizes.passage_tokens
    prompt, answer = align_example(_prompts(), user, text, text_tokens=sizes.text_tokens)
    whole = Prompt(prompt.ids + tuple(answer), prompt.slots)
    targets = padded([[IGNORE] * len(prompt) + list(answer)] * rows, IGNORE)
    return AlignBatch(PromptBatch.of([whole] * rows), _vectors(rows, 1), targets)
