"""The tensors of a checkpoint in the authors' layout: read safetensors files and build the LLM from its part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.files import read_json
from perank.model import AUTHORS_PREFIX, PERank
from perank.saving.model_files import finite_tensors

ENCODER_PREFIX = "model.encoder.encoder."
_REMEDY = "name a folder that the authors' code wrote"
_REFETCH = "download the file again"


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Load all tensors by name, from one file or an index's shards. Raises `BadInput` for values that aren't finite."""
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        tensors |= finite_tensors(file)
    return tensors


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return [folder / "model.safetensors"]
    found = read_json(index)
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) and n == Path(n).name for n in names.values()):
        raise BadInput("weight_map must name files in the same folder", remedy=_REFETCH, path=index)
    return [folder / name for name in sorted(set(names.values()))]


def parts_of(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Split tensors into (LLM, projector, encoder), the latter two without their prefixes."""
    of = {
        prefix: {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in (AUTHORS_PREFIX, ENCODER_PREFIX)
    }
    llm = {key: value for key, value in tensors.items() if not key.startswith((AUTHORS_PREFIX, ENCODER_PREFIX))}
    return llm, of[AUTHORS_PREFIX], of[ENCODER_PREFIX]


def build_llm(config: Any, state: dict[str, Tensor], folder: Path, dtype: torch.dtype) -> Any:
    """Build the causal LM of this config with these tensors. Raises `BadInput` if names or shapes disagree."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        family: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        with torch.device("meta"):
            expected = {key: value.shape for key, value in family(config).state_dict().items()}
    except Exception as error:  # model classes raise any exception for bad sizes
        raise BadInput(f"can't build this LLM: {error}", remedy=_REMEDY, path=folder / "config.json") from error
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
        state.pop("lm_head.weight", None)
    _check_tensors(state, expected, folder)
    options = {"dtype": dtype, "attn_implementation": "sdpa"}
    llm = family.from_pretrained(None, config=config, state_dict=state, **options).eval()
    try:
        with torch.inference_mode():
            assert llm.get_decoder()(input_ids=torch.zeros(1, 2, dtype=torch.long)).last_hidden_state.shape[1] == 2
    except Exception as error:  # some config values are first used in a forward pass
        raise BadInput(f"the LLM can't run: {error}", remedy=_REMEDY, path=folder / "config.json") from error
    return llm


def _check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, torch.Size], folder: Path) -> None:
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise BadInput(
            f"the tensors don't match the config (missing: {missing[:4]}, unknown: {unknown[:4]})",
            remedy=_REMEDY,
            path=folder,
        )
    for key, shape in expected.items():
        if found[key].shape != shape or not found[key].is_floating_point():
            problem = f"expected a float tensor {list(shape)}, found {found[key].dtype} {list(found[key].shape)}"
            raise BadInput(problem, remedy=_REMEDY, path=folder, id=key)


def llm_state(model: PERank, vocabulary: int) -> dict[str, Tensor]:
    """Return the LLM's tensors with `vocabulary` embedding rows (new ones: the mean of the others).

    `score_scale` is multiplied into the final norm.
    """
    state = dict(model.llm.state_dict())
    if model.llm.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for key in ("model.embed_tokens.weight", "lm_head.weight"):
        if key in state:
            rows = state[key][:vocabulary]
            new = rows.mean(0, keepdim=True).expand(vocabulary - len(rows), -1)
            state[key] = torch.cat([rows, new.to(rows.dtype)])
    state["model.norm.weight"] = state["model.norm.weight"] * model.score_scale.to(state["model.norm.weight"].dtype)
    return state
