"""Read and write the authors' checkpoint layout: LLM, frozen encoder and projector in one folder.

    model.embed_tokens, model.layers.*, model.norm, lm_head    the LLM (two more tokens than its base: prompt and
                                                               target slots, whose embeddings are never read)
    model.encoder.encoder.*                                    a copy of the encoder's weights
    model.projector.{0,2}.{weight,bias}                        E_M

perank loads the encoder by name, which also gives its tokenizer and architecture, and rejects a checkpoint whose copy
of the weights differs. Prompts are the reference prompts; slots are positions, so the two added tokens are never used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.files import atomic_folder, read_json, write_json
from perank.model import AUTHORS_PREFIX, Encoder, LLMSettings, PERank, PromptBuilder, dtype_name, dtype_of, projector_of
from perank.saving.authors_config import AuthorsConfig, config_for, read_config, write_tokenizer
from perank.saving.authors_weights import ENCODER_PREFIX, build_llm, llm_state, parts_of, read_tensors
from perank.saving.model_files import local_folder
from perank.saving.pretrained import Pretrained

ADDED_TOKENS = ("<PLACEHOLDER>", "<RANK>")
_LLM_PARTS = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")
_REMEDY = "name a folder that the authors' code wrote"


def is_authors_checkpoint(folder: Path) -> bool:
    """Whether a folder has the authors' layout."""
    path = folder / "config.json"
    found = read_json(path) if path.is_file() else None
    return isinstance(found, dict) and str(found.get("model_type")).startswith("embed_")


def read_authors_checkpoint(
    source: str | Path,
    *,
    encoder: Encoder | str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    **loading: Any,
) -> Pretrained:
    """Load a folder or a Hub repository, in eval mode and trainable. The projector stays in fp32.

    `encoder` overrides the config's `encoder_name`; `loading` (trust_remote_code, hub) is for the latter. Raises
    `BadInput` for missing or unknown tensors, wrong shapes, values that aren't finite, and another encoder than the
    model was trained with.
    """
    folder = local_folder(source, revision)
    tensors = read_tensors(folder)
    config = read_config(folder / "config.json", tensors)
    llm_state, projector_state, encoder_state = parts_of(tensors)
    llm = build_llm(config.llm, llm_state, folder, dtype_of(dtype, device))
    projector = projector_of(
        projector_state, path=folder, width_in=config.embedding_size, width_out=config.llm.hidden_size
    )
    settings = {"pooling": config.pooling, "follow": False, **loading}
    named = encoder if isinstance(encoder, Encoder) else Encoder(encoder or config.encoder_name, **settings)
    _check_encoder(named, config, encoder_state, folder)
    return Pretrained(
        model=PERank(llm, projector).to(device).eval(),
        prompts=PromptBuilder(_tokenizer(folder, config.llm), "reference", max_length=config.max_length),
        encoder=named if named is encoder else replace(named, dtype=dtype, device=device),
        llm=LLMSettings(name=str(folder), dtype=dtype_name(dtype, device)),
        folder=folder,
    )


def write_authors_checkpoint(folder: str | Path, model: PERank, prompts: PromptBuilder, encoder: Encoder) -> None:
    """Write a folder that the authors' code can load, atomically; `score_scale` is multiplied into the final norm.

    Adapters must already be merged. Raises `BadInput` for what the layout can't express (anchored scores, other
    prompts, an LLM without `model.layers`), and if the folder isn't empty.
    """
    folder = Path(folder)
    _check_expressible(model, prompts)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput("the folder is not empty", remedy="name an empty or a new folder", path=folder)
    with atomic_folder(folder) as draft:
        _write(draft, model, prompts, encoder)


def _write(folder: Path, model: PERank, prompts: PromptBuilder, encoder: Encoder) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tokenizer = copy.deepcopy(prompts.tokenizer)
    tokenizer.add_tokens(list(ADDED_TOKENS), special_tokens=True)
    write_tokenizer(folder, tokenizer, prompts.max_length)
    tensors = {
        **llm_state(model, len(tokenizer)),
        **{AUTHORS_PREFIX + key: value for key, value in model.projector.state_dict().items()},
        **{ENCODER_PREFIX + key: value for key, value in encoder.model.state_dict().items()},
    }
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise BadInput(f"can't write weights: {error}", remedy="free some disk space", path=folder) from error
    fields = config_for(model.llm, encoder, vocabulary=len(tokenizer), max_length=prompts.max_length)
    write_json(folder / "config.json", fields)


def _check_expressible(model: PERank, prompts: PromptBuilder) -> None:
    problem = None
    if model.anchors is not None:
        problem = f"the authors' layout has no anchored scores, this model has {model.anchors.current.terms}"
    elif prompts.version != "reference" or prompts.query_slot:
        slot = " with a query slot" if prompts.query_slot else ""
        problem = f"the authors' code runs the reference prompt, this model uses {prompts.version!r}{slot}"
    elif any("lora_" in key for key in model.llm.state_dict()):
        problem = "the LLM has adapters that aren't merged"
    elif not all(key.startswith(_LLM_PARTS) for key in model.llm.state_dict()):
        problem = f"the authors' layout doesn't support {type(model.llm).__name__}"
    if problem is not None:
        raise BadInput(problem, remedy="use save_pretrained, perank's own format")


def _check_encoder(encoder: Encoder, config: AuthorsConfig, stored: Mapping[str, Tensor], folder: Path) -> None:
    problem = None
    if encoder.pooling != config.pooling:
        problem = f"its pooling is {encoder.pooling}, the model was trained with {config.pooling}"
    elif encoder.width != config.embedding_size:
        problem = f"its vectors have {encoder.width} entries, the model was trained with {config.embedding_size}"
    else:
        own = {key: value for key, value in encoder.model.state_dict().items() if _counts(key)}
        stored = {key: value for key, value in stored.items() if _counts(key)}
        if own.keys() != stored.keys():
            problem = f"its tensor names differ: {sorted(own.keys() ^ stored.keys())[:4]}"
        elif changed := [key for key, value in own.items() if not _same(value, stored[key])]:
            problem = f"its weights differ: {changed[:4]}"
    if problem is not None:
        remedy = "pass the encoder that the model was trained with"
        raise BadInput(f"the wrong encoder: {problem}", remedy=remedy, path=folder, id=encoder.name)


def _counts(key: str) -> bool:
    return not key.startswith("pooler.") and "position_ids" not in key  # not used in a pooled vector


def _same(ours: Tensor, stored: Tensor) -> bool:
    """Whether values are equal up to half precision, in which checkpoints are stored."""
    ours, stored = ours.cpu().float(), stored.float()
    return ours.shape == stored.shape and torch.allclose(ours, stored, rtol=0.01, atol=1e-4)


def _tokenizer(folder: Path, config: Any) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise BadInput(f"can't read the tokenizer: {error}", remedy="download it again", path=folder) from error
    if len(tokenizer) > config.vocab_size:
        problem = f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}"
        raise BadInput(problem, remedy=_REMEDY, path=folder)
    if not tokenizer.chat_template:
        raise BadInput("the tokenizer has no chat template", remedy="add one to its config", path=folder)
    return tokenizer
