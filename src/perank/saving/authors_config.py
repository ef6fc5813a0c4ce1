"""config.json in the authors' layout: the LLM's fields under `model_type: embed_<family>`, and the encoder's.

Their code runs on transformers 4.37, so files use that version's names: `rope_theta` and `torch_dtype` at the top
level, the chat template inside tokenizer_config.json, and merges as strings in tokenizer.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import read_json, write_json
from perank.model import Encoder
from perank.saving.model_files import saved_name

_POOLINGS = {"mean": "mean", "cls": "cls", "last_token": "last"}  # theirs -> ours
_NOT_THE_FAMILYS = {
    *("_name_or_path", "architectures", "model_type", "transformers_version"),
    *("encoder_name", "encoder_pooling", "embedding_size", "use_proj", "projector_type", "tune_mlp_adapter"),
    *("freeze_backbone", "tokenizer_model_max_length", "tokenizer_padding_side"),
    *("return_dict", "output_attentions", "output_hidden_states"),  # options of a call, not of the model
}
_REMEDY = "name a folder that the authors' code wrote"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorsConfig:
    """The LLM's transformers config and the authors' additional fields; `pooling` uses perank's names."""

    llm: Any
    encoder_name: str
    pooling: str
    embedding_size: int
    max_length: int


def read_config(path: Path, keys: Iterable[str]) -> AuthorsConfig:
    """Parse the config.json of a checkpoint with these tensors. Raises `BadInput` for any other layout."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise BadInput(f"expected a JSON object, found {type(found).__name__}", remedy=_REMEDY, path=path)
    kinds = {"encoder_name": str, "embedding_size": int, "use_proj": bool, "projector_type": str}
    for name, kind in kinds.items():
        if type(found.get(name)) is not kind:
            raise BadInput(f"{name} must be a {kind.__name__}, found {found.get(name)!r}", remedy=_REMEDY, path=path)
    if not found["use_proj"] or found["projector_type"] != "mlp2x_gelu":
        problem = f"the projector is {found['projector_type']!r} (use_proj {found['use_proj']}), expected mlp2x_gelu"
        raise BadInput(problem, remedy="name a checkpoint with a two-layer projector", path=path)
    pooling = found.get("encoder_pooling")
    if not isinstance(pooling, str) or pooling not in _POOLINGS:
        raise BadInput(f"unknown pooling {pooling!r}", remedy=f"choose one of {', '.join(_POOLINGS)}", path=path)
    max_length = found.get("tokenizer_model_max_length", 4096)
    if type(max_length) is not int or max_length < 1:
        raise BadInput(f"tokenizer_model_max_length is {max_length!r}, expected >= 1", remedy=_REMEDY, path=path)
    return AuthorsConfig(
        llm=_llm_config(found, path, keys),
        encoder_name=found["encoder_name"],
        pooling=_POOLINGS[pooling],
        embedding_size=found["embedding_size"],
        max_length=max_length,
    )


def _llm_config(found: Mapping[str, Any], path: Path, keys: Iterable[str]) -> Any:
    from transformers import CONFIG_MAPPING

    kind = found.get("model_type")
    family = kind.removeprefix("embed_") if isinstance(kind, str) and kind.startswith("embed_") else None
    if family is None or family not in CONFIG_MAPPING:
        raise BadInput(f"model_type is {kind!r}, expected embed_<family of LLMs>", remedy=_REMEDY, path=path)
    # Checked before anything is built: a damaged config may claim a billion layers.
    layers = {int(match[1]) for key in keys if (match := re.match(r"model\.layers\.(\d{1,6})\.", key))}
    if found.get("num_hidden_layers") != len(layers) or layers != set(range(len(layers))):
        problem = f"num_hidden_layers is {found.get('num_hidden_layers')!r}, the checkpoint holds {len(layers)}"
        raise BadInput(problem, remedy=_REMEDY, path=path)
    try:
        return CONFIG_MAPPING[family].from_dict({k: v for k, v in found.items() if k not in _NOT_THE_FAMILYS})
    except Exception as error:  # config classes raise any exception for a bad value
        raise BadInput(f"not a config of {family}: {_first_line(error)}", remedy=_REMEDY, path=path) from error


def config_for(llm: Any, encoder: Encoder, *, vocabulary: int, max_length: int) -> dict[str, Any]:
    """Return the fields of config.json for this LLM and encoder, named as in transformers 4.37."""
    pooling = next((theirs for theirs, ours in _POOLINGS.items() if ours == encoder.pooling), None)
    if pooling is None:
        problem = f"the authors' layout has no {encoder.pooling} pooling"
        raise BadInput(problem, remedy="use save_pretrained, perank's own format", id=encoder.name)
    family = llm.config.model_type
    fields = llm.config.to_dict()
    rope = dict(fields.pop("rope_parameters", None) or {})
    kept = {k: v for k, v in fields.items() if k not in _NOT_THE_FAMILYS and k not in ("dtype", "torch_dtype")}
    if "rope_theta" in rope:
        kept["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        kept["rope_scaling"] = {"type": rope["rope_type"], **rope}
    return {
        **kept,
        "architectures": [f"Embed{family.title()}ForRankLM"],
        "model_type": f"embed_{family}",
        "vocab_size": vocabulary,
        "torch_dtype": str(llm.dtype).removeprefix("torch."),
        "transformers_version": "4.37.2",
        "encoder_name": saved_name(encoder.name),
        "encoder_pooling": pooling,
        "embedding_size": encoder.width,
        "use_proj": True,
        "projector_type": "mlp2x_gelu",
        "tune_mlp_adapter": True,
        "freeze_backbone": False,
        "tokenizer_model_max_length": max_length,
        "tokenizer_padding_side": "right",
    }


def write_tokenizer(folder: Path, tokenizer: Any, max_length: int) -> None:
    """Save a fast tokenizer in a form that transformers 4.37 reads."""
    tokenizer.save_pretrained(folder)
    settings = read_json(folder / "tokenizer_config.json")
    template = folder / "chat_template.jinja"
    if template.exists():
        settings["chat_template"] = template.read_text(encoding="utf-8")
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": max_length}
    for name in ("backend", "is_local", "local_files_only"):  # specific to this machine
        settings.pop(name, None)
    write_json(folder / "tokenizer_config.json", settings)
    whole = read_json(folder / "tokenizer.json")
    merges = whole.get("model", {}).get("merges") or []
    if merges and isinstance(merges[0], list) and not any(" " in part for pair in merges for part in pair):
        whole["model"]["merges"] = [" ".join(pair) for pair in merges]
        (folder / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
