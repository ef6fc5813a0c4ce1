"""A whole PE-Rank model in one folder: config.json, model.safetensors (projector and adapters), README.md.

The LLM and the encoder are named, not copied; where the whole LLM was trained it lies beside them in `llm/`, in
Hugging Face's own layout. Adapters are merged while loading, so using a model needs no peft.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import perank
from perank.errors import BadInput
from perank.files import atomic_folder, atomic_write, sha256, write_json
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.packed_linear import pack_linears
from perank.model.llm import LLMSettings
from perank.model.lora import adapter_state, merge_saved
from perank.model.pe_rank import PERank
from perank.model.precision import dtype_of, known_device
from perank.model.projector import Projector
from perank.model.prompts import PromptBuilder
from perank.paths import PACKAGE_DIR
from perank.saving.authors_config import is_published
from perank.saving.config import (
    FORMAT,
    SavedConfig,
    SavedEncoder,
    SavedLLM,
    SavedLora,
    SavedProjector,
    SavedPrompt,
    read_config,
    read_weights,
    write_weights,
)
from perank.saving.pretrained import Pretrained, of_the_authors

WEIGHTS, CONFIG, OWN_LLM = "model.safetensors", "config.json", "./llm"
BOX = PACKAGE_DIR / "box"
_PACKED_BYTES = 2**30  # of an LLM that may lie in memory twice


def save_pretrained(
    folder: str | os.PathLike[str],
    model: PERank,
    *,
    llm: LLMSettings,
    prompts: PromptBuilder,
    encoder: Encoder,
    window: int = 20,
    step: int = 10,
    dtype: str | None = None,
    whole_llm: bool | None = None,
    card: str = "",
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write projector and adapters (as `dtype`; None: as they are), and the LLM itself if its weights were trained.

    `llm` are the settings the model was made with; `whole_llm` None means: if any of its own weights requires a
    gradient. `state` holds the model's weights where it can't give them itself (it is in shards). Files appear whole,
    config.json last. Raises `BadInput` where settings and model disagree.
    """
    folder = Path(folder)
    weights = model.state_dict() if state is None else state
    projector = {key: value for key, value in weights.items() if key.startswith("projector.")}
    adapters = adapter_state(weights)
    if bool(adapters) != (llm.lora is not None):
        problem = f"the model has {len(adapters)} adapter weights, its settings say lora: {llm.lora}"
        raise BadInput(problem, remedy="pass the settings the model was made with")
    if whole_llm is None:
        whole_llm = any(p.requires_grad and "lora_" not in name for name, p in model.llm.named_parameters())
    folder.mkdir(parents=True, exist_ok=True)
    if whole_llm:
        llm_state = {key.removeprefix("llm."): value for key, value in weights.items() if key.startswith("llm.")}
        with atomic_folder(folder / OWN_LLM) as draft:
            model.llm.save_pretrained(draft, state_dict=llm_state)
            prompts.tokenizer.save_pretrained(draft)
    write_weights(folder / WEIGHTS, {**projector, **adapters}, dtype)
    named = replace(llm, name=OWN_LLM, revision=None, num_layers=None) if whole_llm else llm
    config = _config(model, named, prompts, encoder, window, step, sha256(folder / WEIGHTS))
    with atomic_write(folder / "README.md") as file:
        file.write(card or _card(config))
    write_json(folder / CONFIG, config.as_dict())
    return folder


def from_pretrained(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    revision: str | None = None,
    merge: bool = True,
    trust_remote_code: bool = False,
) -> Pretrained:
    """Load a folder, a Hub id, or (None) the model inside the package; in eval mode, nothing trainable.

    A folder or repository in the authors' layout (`liuqi6777/pe-rank-mistral-jina`) will do as well.

    `dtype` is the LLM's and the encoder's; the projector keeps fp32. `merge=False` keeps the adapters apart, as
    training wants them (needs peft); else the layers of a small LLM are packed on a CPU, and its weights must not
    change. Raises `BadInput` where the folder is missing, torn, or of another model, and for a device that isn't here.
    """
    known_device(device)  # before anything is read
    folder = _located(name_or_path, revision)
    if is_published(folder):
        return of_the_authors(folder, device=device, dtype=dtype)
    config = read_config(folder / CONFIG)
    state = read_weights(folder / WEIGHTS, config.sha256)
    kind = dtype_of(dtype, device)
    lora = None if config.llm.lora is None else config.llm.lora.settings()
    settings = LLMSettings(
        name=str(folder / OWN_LLM) if config.llm.name == OWN_LLM else config.llm.name,
        revision=config.llm.revision,
        num_layers=config.llm.num_layers,
        dtype=str(kind).removeprefix("torch."),
        lora=None if merge else lora,
        trust_remote_code=trust_remote_code,
    )
    llm, tokenizer = settings.load(), settings.tokenizer()
    adapters = adapter_state(state)
    if lora is not None and merge:
        merge_saved(llm, adapters, lora, path=folder / WEIGHTS)
    elif lora is None and adapters:
        raise BadInput("adapters without lora settings", remedy="restore config.json", path=folder / WEIGHTS)
    projector = _projector(config.projector, state, folder / WEIGHTS)
    model = PERank(llm, projector, score_scale=config.score_scale, residual=config.residual)
    _load(model, state if not merge else {k: v for k, v in state.items() if k not in adapters}, folder / WEIGHTS)
    projector.to(torch.promote_types(kind, torch.float32))
    model.to(device).eval().requires_grad_(False)
    if merge and sum(weight.nbytes for weight in model.decoder.parameters()) < _PACKED_BYTES:
        pack_linears(model.decoder)
    encoder = Encoder(**vars(config.encoder), dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    prompts = PromptBuilder(tokenizer, **vars(config.prompt))
    return Pretrained(model, prompts, encoder, settings, config.window, config.step, folder)


def push_to_hub(folder: str | os.PathLike[str], repo_id: str, *, private: bool = False) -> str:
    """Upload a folder that `save_pretrained` wrote; the address of the commit. Raises `BadInput` if it isn't one."""
    from huggingface_hub import HfApi

    folder = Path(folder)
    read_weights(folder / WEIGHTS, read_config(folder / CONFIG).sha256)
    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a PE-Rank model"))


def _config(
    model: PERank, llm: LLMSettings, prompts: PromptBuilder, encoder: Encoder, window: int, step: int, digest: str
) -> SavedConfig:
    lora = None if llm.lora is None else SavedLora.of(llm.lora)
    return SavedConfig(
        format=FORMAT,
        perank=perank.__version__,
        llm=SavedLLM(name=llm.name, revision=llm.revision, num_layers=llm.num_layers, lora=lora),
        encoder=SavedEncoder(
            name=encoder.name,
            revision=encoder.revision,
            pooling=encoder.pooling,
            query_prefix=encoder.query_prefix,
            passage_prefix=encoder.passage_prefix,
            max_length=encoder.max_length,
        ),
        projector=SavedProjector(width_in=model.projector.width_in, width_out=model.projector.width_out),
        prompt=SavedPrompt(
            version=prompts.version,
            query_slot=prompts.query_slot,
            max_length=prompts.max_length,
            text_tokens=prompts.text_tokens,
        ),
        score_scale=float(model.score_scale),
        residual=float(model.residual),
        window=window,
        step=step,
        sha256=digest,
    )


def _projector(said: SavedProjector, state: dict[str, Tensor], path: Path) -> Projector:
    """Of the config's widths if the weights have them: it may claim any, and memory is asked for here."""
    weight = state.get("projector.0.weight")
    found = [] if weight is None else list(weight.shape)
    if found != [said.width_out, said.width_in]:
        problem = f"a projector of {found}, expected {[said.width_out, said.width_in]}"
        raise BadInput(problem, remedy="restore config.json, or save the model again", path=path)
    return Projector(said.width_in, said.width_out)


def _load(model: PERank, state: dict[str, Tensor], path: Path) -> None:
    """Strict: what isn't the LLM's own or merged has to be there, in its shape, and nothing else."""
    expected = {k: v for k, v in model.state_dict().items() if k.startswith("projector.") or "lora_" in k}
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += sorted(k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape)
    if wrong:
        problem = f"missing, unknown or of another shape: {', '.join(wrong[:3])}"
        raise BadInput(problem, remedy="save or fetch the model again", path=path)
    model.load_state_dict(state, strict=False)


def _located(name_or_path: str | os.PathLike[str] | None, revision: str | None) -> Path:
    if name_or_path is None:
        if not (BOX / CONFIG).is_file():
            problem = "this installation carries no model"
            raise BadInput(problem, remedy="name a folder or a Hub id: Reranker.from_pretrained(...)", path=BOX)
        return BOX
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name_or_path), revision=revision))
    except (OSError, ValueError, RuntimeError) as error:
        problem = f"no such folder, and the Hub doesn't give it: {str(error).splitlines()[0]}"
        raise BadInput(problem, remedy="check the name and the connection", id=str(name_or_path)) from error


def _card(config: SavedConfig) -> str:
    base = "" if config.llm.name.startswith(("pypi:", ".")) else f"base_model: {config.llm.name}\n"
    return (
        f"---\nlibrary_name: perank\ntags: [reranking, pe-rank]\n{base}---\n\n"
        f"A PE-Rank listwise reranker: {config.llm.name} reads one {config.encoder.name} vector per passage.\n\n"
        '```python\nfrom perank import Reranker\nReranker.from_pretrained("this folder").rank(query, passages)\n```\n'
    )
