"""Save and load a text ranker as one folder: config.json and model.safetensors (adapters), or the LLM in `llm/`.

The layout is that of a saved PE-Rank model, with the listwise prompt in place of projector and encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

import perank
from perank.files import make_folder, read_json, write_json
from perank.model import ListwisePrompts, LLMSettings, TextRanker, adapter_state, dtype_name, merge_saved
from perank.saving.config import SavedLLM, read_config, saved
from perank.saving.model_files import CONFIG, WEIGHTS, read_weights, write_llm, write_weights

FORMAT = "listwise-1"


@dataclass(frozen=True, kw_only=True)
class SavedListwisePrompt:
    version: str
    max_length: int
    text_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class SavedTextConfig:
    """`text` is the passage view used in training; window and step are defaults."""

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
    """A loaded text ranker with merged adapters, in eval mode and not trainable."""

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
    windows: tuple[int, int] = (20, 10),
    state: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write what was trained: adapters, or the whole LLM. `llm` holds the settings that the model was built with.

    `windows` are the default window and step. `state` holds the model's weights if the model is sharded. Files are
    written atomically, config.json last.
    """
    folder, weights = Path(folder), model.state_dict() if state is None else state
    adapters = adapter_state(weights)
    make_folder(folder)
    if not adapters:
        write_llm(folder, model.llm, weights, prompts.builder.tokenizer)
    config = SavedTextConfig(
        format=FORMAT,
        perank=perank.__version__,
        llm=SavedLLM.of(llm, whole=not adapters),
        prompt=saved(SavedListwisePrompt, prompts),
        text=text,
        window=windows[0],
        step=windows[1],
        sha256=write_weights(folder, adapters),
    )
    write_json(folder / CONFIG, asdict(config))
    return folder


def is_text_ranker(folder: str | Path) -> bool:
    """Whether `save_text_ranker` wrote this folder."""
    path = Path(folder) / CONFIG
    raw = read_json(path) if path.is_file() else None
    return isinstance(raw, dict) and str(raw.get("format")).startswith("listwise")


def load_text_ranker(folder: str | Path, *, device: str = "cpu", dtype: str = "auto") -> TrainedListwise:
    """Load what `save_text_ranker` wrote. Raises `BadInput` if it is missing, damaged or another kind of model."""
    folder = Path(folder)
    config: SavedTextConfig = read_config(folder, SavedTextConfig, format=FORMAT, what="text ranker")
    adapters = read_weights(folder, config.sha256)
    settings = config.llm.settings(folder, dtype=dtype_name(dtype, device))
    llm = settings.load()
    if config.llm.lora is not None:
        merge_saved(llm, adapters, config.llm.lora.settings(), path=folder / WEIGHTS)
    prompts = ListwisePrompts(settings.tokenizer(), **vars(config.prompt))
    llm = llm.to(device).eval().requires_grad_(False)
    return TrainedListwise(llm, prompts, config.text, config.window, config.step)
