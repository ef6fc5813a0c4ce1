"""A trained text ranker in one folder: config.json and model.safetensors (adapters), or the whole LLM in `llm/`.

The layout is that of a saved PE-Rank model, with the listwise prompt in place of projector and encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

import perank
from perank.errors import BadInput
from perank.files import atomic_folder, read_json, sha256, write_json
from perank.model.listwise_prompts import ListwisePrompts
from perank.model.llm import LLMSettings
from perank.model.lora import adapter_state, merge_saved
from perank.model.precision import dtype_of
from perank.model.text_ranker import TextRanker
from perank.saving.config import SavedLLM, SavedLora, parsed, read_weights, write_weights

FORMAT = "listwise-1"
CONFIG, WEIGHTS, OWN_LLM = "config.json", "model.safetensors", "./llm"


@dataclass(frozen=True, kw_only=True)
class SavedListwisePrompt:
    version: str
    max_length: int
    text_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class SavedTextConfig:
    """`text` is the view of passages it was trained on; window and step are defaults."""

    format: str
    perank: str
    llm: SavedLLM
    prompt: SavedListwisePrompt
    text: str
    window: int
    step: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TrainedListwise:
    """A loaded text ranker, adapters merged, in eval mode, nothing trainable."""

    llm: Any
    prompts: ListwisePrompts
    text: str
    window: int
    step: int


def save_text_ranker(
    folder: str | Path,
    model: TextRanker,
    *,
    llm: LLMSettings,
    prompts: ListwisePrompts,
    text: str,
    window: int = 20,
    step: int = 10,
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write what was trained: adapters, or the whole LLM. `llm` are the settings the model was made with.

    `state` holds the model's weights where it can't give them itself. Files appear whole, config.json last.
    """
    folder = Path(folder)
    weights = dict(model.state_dict() if state is None else state)
    adapters = adapter_state(weights)
    folder.mkdir(parents=True, exist_ok=True)
    if not adapters:
        own = {key.removeprefix("llm."): value for key, value in weights.items() if key.startswith("llm.")}
        with atomic_folder(folder / OWN_LLM) as draft:
            model.llm.save_pretrained(draft, state_dict=own)
            prompts.builder.tokenizer.save_pretrained(draft)
        llm = replace(llm, name=OWN_LLM, revision=None, num_layers=None, lora=None)
    write_weights(folder / WEIGHTS, adapters)
    lora = None if llm.lora is None else SavedLora.of(llm.lora)
    config = SavedTextConfig(
        format=FORMAT,
        perank=perank.__version__,
        llm=SavedLLM(name=llm.name, revision=llm.revision, num_layers=llm.num_layers, lora=lora),
        prompt=SavedListwisePrompt(
            version=prompts.version, max_length=prompts.max_length, text_tokens=prompts.text_tokens
        ),
        text=text,
        window=window,
        step=step,
        sha256=sha256(folder / WEIGHTS),
    )
    write_json(folder / CONFIG, asdict(config))
    return folder


def is_text_ranker(folder: str | Path) -> bool:
    """Whether a folder is one that `save_text_ranker` wrote."""
    path = Path(folder) / CONFIG
    raw = read_json(path) if path.is_file() else None
    return isinstance(raw, dict) and str(raw.get("format")).startswith("listwise")


def load_text_ranker(folder: str | Path, *, device: str = "cpu", dtype: str = "auto") -> TrainedListwise:
    """What `save_text_ranker` wrote. Raises `BadInput` where the folder is missing, torn, or of another model."""
    folder = Path(folder)
    raw = read_json(folder / CONFIG)
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        problem = f"not a text ranker of format {FORMAT!r}"
        raise BadInput(problem, remedy="name the model/ of a run of +experiment=rankmistral", path=folder / CONFIG)
    config: SavedTextConfig = parsed(SavedTextConfig, raw, folder / CONFIG)
    adapters = read_weights(folder / WEIGHTS, config.sha256)
    settings = LLMSettings(
        name=str(folder / OWN_LLM) if config.llm.name == OWN_LLM else config.llm.name,
        revision=config.llm.revision,
        num_layers=config.llm.num_layers,
        dtype=str(dtype_of(dtype, device)).removeprefix("torch."),
    )
    llm = settings.load()
    if config.llm.lora is not None:
        merge_saved(llm, adapters, config.llm.lora.settings(), path=folder / WEIGHTS)
    prompts = ListwisePrompts(settings.tokenizer(), **vars(config.prompt))
    made = llm.to(device).eval().requires_grad_(False)
    return TrainedListwise(made, prompts, config.text, config.window, config.step)
