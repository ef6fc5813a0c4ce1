"""Save and load a PE-Rank model as one folder: config.json, model.safetensors (projector and adapters), README.md.

The LLM and the encoder are referenced by name, not copied. A fully trained LLM is stored in `llm/`, in Hugging Face's
layout. Adapters are merged while loading, so inference doesn't need peft.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import perank
from perank.errors import BadInput
from perank.files import atomic_write, make_folder
from perank.model import (
    Anchors,
    Encoder,
    LLMSettings,
    PERank,
    PromptBuilder,
    adapter_state,
    dtype_name,
    layer_state,
    load_layers,
    merge_saved,
    pack_linears,
    projector_of,
)
from perank.saving.authors_checkpoint import is_authors_checkpoint, read_authors_checkpoint
from perank.saving.config import (
    FORMAT,
    SavedAnchors,
    SavedConfig,
    SavedEncoder,
    SavedLLM,
    SavedProjector,
    SavedPrompt,
    card_of,
    read_saved_config,
    saved,
)
from perank.saving.load_options import model_name, split_options
from perank.saving.model_files import (
    CONFIG,
    OWN_LLM,
    WEIGHTS,
    local_folder,
    read_weights,
    saved_name,
    write_llm,
    write_weights,
)
from perank.saving.pretrained import Pretrained

BOX = Path(perank.__file__).parent / "box"
_PACKED_BYTES = 2**30  # below this size, two copies of the LLM's weights in memory are acceptable


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """How weights are written: `dtype` (None: unchanged) and the model `card` (None: a short one).

    `whole_llm` None means: if any of the LLM's own weights requires a gradient. `state` holds the model's weights if
    the model is sharded.
    """

    dtype: str | None = None
    whole_llm: bool | None = None
    card: str | None = None
    state: Mapping[str, Tensor] | None = None


def save_pretrained(
    folder: str | os.PathLike[str],
    model: PERank,
    *,
    llm: LLMSettings,
    prompts: PromptBuilder,
    encoder: Encoder,
    window: int = 20,
    step: int = 10,
    **options: Any,
) -> Path:
    """Write projector and adapters, and the LLM itself if its weights were trained; `options` as in `SaveOptions`.

    `llm` holds the settings that the model was built with. Files are written atomically, config.json last. Raises
    `BadInput` if settings and model disagree.
    """
    how, folder = SaveOptions(**options), Path(folder)
    weights = model.state_dict() if how.state is None else how.state
    adapters = adapter_state(weights)
    if bool(adapters) != (llm.lora is not None):
        problem = f"the model has {len(adapters)} adapter weights, its settings say lora: {llm.lora}"
        raise BadInput(problem, remedy="pass the settings that the model was built with")
    whole = how.whole_llm
    if whole is None:
        whole = any(p.requires_grad and "lora_" not in name for name, p in model.llm.named_parameters())
    layers = layer_state(weights) if whole and not llm.train_embeddings else {}
    make_folder(folder)
    if whole and not layers:
        write_llm(folder, model.llm, weights, prompts.tokenizer)
    projector = {key: value for key, value in weights.items() if key.startswith("projector.")}
    config = SavedConfig(
        format=FORMAT,
        perank=perank.__version__,
        llm=SavedLLM.of(llm, whole=whole and not layers, layers=bool(layers)),
        encoder=saved(SavedEncoder, encoder, name=saved_name(encoder.name)),
        projector=saved(SavedProjector, model.projector),
        prompt=saved(SavedPrompt, prompts),
        score_scale=float(model.score_scale),
        residual=0.0,
        window=window,
        step=step,
        sha256=write_weights(folder, {**projector, **adapters, **layers}, how.dtype),
        anchors=None if model.anchors is None else saved(SavedAnchors, model.anchors.current),
    )
    with atomic_write(folder / "README.md") as file:
        file.write(how.card or card_of(config))
    config.write(folder)
    return folder


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Pause garbage collection, which takes half a second while transformers is imported."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


@_without_collecting()
def from_pretrained(
    name_or_path: str | os.PathLike[str] | None = None, *, merge: bool = True, **options: Any
) -> Pretrained:
    """Load a folder, a Hub id, or (None) the model inside the package, in eval mode and not trainable.

    Also reads the authors' layout (`liuqi6777/pe-rank-mistral-jina`). `options` are those of `LoadOptions`, also by the
    names that transformers gives them; `dtype` is that of the LLM and the encoder, the projector stays in fp32. The
    encoder's settings are the saved ones, whatever its sentence-transformers files say. `merge=False` keeps the
    adapters separate, for training (needs peft). Otherwise the layers of a small LLM are packed on a CPU, and its
    weights must not change. Raises `BadInput` for an unknown option, if the folder is missing, damaged or of another
    model, or if the device doesn't exist.
    """
    how, _ = split_options(options)  # fails before anything is read
    hub, device, dtype = dict(how.hub), how.device, how.dtype
    if name_or_path is None and not (BOX / CONFIG).is_file():
        remedy = "name a folder or a Hub id: Reranker.from_pretrained(...)"
        raise BadInput("this installation includes no model", remedy=remedy, path=BOX)
    code = how.trust_remote_code
    folder = BOX if name_or_path is None else local_folder(model_name(name_or_path), how.revision, code=code, **hub)
    if is_authors_checkpoint(folder):
        found = read_authors_checkpoint(folder, device=device, dtype=dtype, trust_remote_code=code, hub=hub)
        found.model.requires_grad_(False)
        return found
    config = read_saved_config(folder)
    state = read_weights(folder, config.sha256)
    lora = None if config.llm.lora is None else config.llm.lora.settings()
    loading: dict[str, Any] = {"trust_remote_code": code, "hub": hub}
    settings = config.llm.settings(
        folder, dtype=dtype_name(dtype, device), lora=None if merge else lora, attention=how.attention, **loading
    )
    llm, tokenizer = settings.load(), settings.tokenizer()
    model = _model(llm, config, state, merge=merge, path=folder / WEIGHTS).to(device).eval().requires_grad_(False)
    if merge and sum(weight.nbytes for weight in model.decoder.parameters()) < _PACKED_BYTES:
        pack_linears(model.decoder)
    return Pretrained(
        model=model,
        prompts=PromptBuilder(tokenizer, **vars(config.prompt)),
        encoder=config.encoder.encoder(folder, dtype=dtype, device=device, **loading),
        llm=settings,
        window=config.window,
        step=config.step,
        folder=folder,
    )


def saved_folder(name: str | os.PathLike[str]) -> Path | None:
    """Return the folder of the saved model `name`: "box" is the one inside the package. None if it isn't one."""
    folder = BOX if name == "box" else Path(name)
    return folder if name == "box" or (folder / CONFIG).is_file() else None


def saved_weights(folder: Path, llm: LLMSettings) -> dict[str, Tensor]:
    """Return the weights of a saved model by the model's own parameter names, to train on from them with `llm`.

    Raises `BadInput` for a model whose whole LLM was saved (name its checkpoint), or with other layers or adapters.
    """
    if (config := read_saved_config(folder)).llm.name == OWN_LLM:
        raise BadInput("the whole LLM was saved", remedy="name a checkpoint or the run's folder", path=folder)
    config.llm.check_trained_with(llm, folder)
    state = read_weights(folder, config.sha256)
    anchors = config.anchor_settings()
    own = {} if anchors is None else {f"anchors.{key}": value for key, value in Anchors(anchors).state_dict().items()}
    return {**state, **own, "score_scale": torch.tensor(config.score_scale)}


def push_to_hub(folder: str | os.PathLike[str], repo_id: str, *, private: bool = False) -> str:
    """Upload a folder that `save_pretrained` wrote; return the commit's URL.

    Raises `BadInput` for other folders, and if the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    folder = Path(folder)
    read_weights(folder, read_saved_config(folder).sha256)
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a PE-Rank model"))
    except HfHubHTTPError as error:
        problem = f"the Hub refuses: {str(error).strip().splitlines()[0][:200]}"
        raise BadInput(problem, remedy="check the name, and `hf auth whoami`", id=repo_id) from error


def _model(llm: Any, config: SavedConfig, state: Mapping[str, Tensor], *, merge: bool, path: Path) -> PERank:
    """Build the model with adapters merged or separate. Raises `BadInput` for missing or unknown weights."""
    own = {key.removeprefix("projector."): value for key, value in state.items() if key.startswith("projector.")}
    projector = projector_of(own, path=path, **vars(config.projector))
    adapters, lora = adapter_state(state), config.llm.lora
    layers = layer_state(state) if config.llm.layers else {}
    load_layers(llm, layers, path=path)
    if lora is None and adapters:
        raise BadInput("adapter weights without lora settings", remedy="restore config.json", path=path)
    if lora is not None and merge:
        merge_saved(llm, adapters, lora.settings(), path=path)
    model = PERank(llm, projector, score_scale=config.score_scale, anchors=config.anchor_settings())
    projector.to(torch.promote_types(llm.dtype, torch.float32))
    apart = {} if merge else adapters
    expected = {key: value.shape for key, value in model.state_dict().items() if "lora_" in key}
    unknown = {key for key in state if not key.startswith("projector.")} - adapters.keys() - layers.keys()
    if {key: value.shape for key, value in apart.items()} != expected or unknown:
        wrong = sorted(expected.keys() ^ apart.keys() | unknown) or sorted(apart)
        problem = f"weights missing, unknown or of the wrong shape: {', '.join(wrong[:3])}"
        raise BadInput(problem, remedy="save or download the model again", path=path)
    model.load_state_dict(apart, strict=False)
    return model
