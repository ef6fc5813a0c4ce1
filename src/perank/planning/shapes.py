"""Models on the meta device: parameters with shapes and types but no memory.

Shapes come from the model's own config (folder, cache or Hub). Those of the paper's models are also stored next to this
file, for machines without access to the Hub; using them is logged.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from perank.errors import BadInput
from perank.files import read_json
from perank.model import Encoder, LLMSettings, PERank, Projector

log = logging.getLogger(__name__)


def llm_on_meta(settings: LLMSettings) -> Any:
    """Build the causal LM that `settings.load()` would load, with adapters."""
    return llm_of_shape(settings, "meta")


def llm_of_shape(settings: LLMSettings, device: str) -> Any:
    """Build the same on a device, with random weights."""
    from transformers import AutoModelForCausalLM

    config = _config(settings.name, settings.config, settings.num_layers)
    with torch.device(device):
        llm = AutoModelForCausalLM.from_config(
            config, dtype=settings.torch_dtype, attn_implementation="sdpa", trust_remote_code=False
        )
        return settings.prepare(llm.eval())


def encoder_on_meta(encoder: Encoder) -> Any:
    """Build the module that `encoder.model` would be."""
    from transformers import AutoModel

    from perank.model.encoders.jina_bert import JinaBert, JinaBertConfig

    config = _config(encoder.name, LLMSettings(name=encoder.name, revision=encoder.revision).config, None)
    with torch.device("meta"):
        if getattr(config, "position_embedding_type", None) == "alibi":
            sizes = JinaBertConfig.__dataclass_fields__.keys()
            return JinaBert(JinaBertConfig(**{name: getattr(config, name) for name in sizes})).to(encoder.torch_dtype)
        return AutoModel.from_config(config, dtype=encoder.torch_dtype)


def model_on_meta(llm: Any, width: int) -> PERank:
    """Build PE-Rank from this LLM, for an encoder of this width."""
    with torch.device("meta"):
        return PERank(llm, Projector(width, llm.get_input_embeddings().embedding_dim))


def _config(name: str, own: Any, num_layers: int | None) -> Any:
    from transformers import CONFIG_MAPPING

    known = Path(__file__).parent / "shapes" / f"{name.replace('/', '--')}.json"
    try:
        return own()
    except BadInput:
        if not known.is_file():
            raise
    log.warning("the config of %s is unavailable: using the copy in perank", name)
    fields = read_json(known)
    if num_layers is not None:
        fields["num_hidden_layers"] = num_layers
    return CONFIG_MAPPING[fields.pop("model_type")](**fields)
