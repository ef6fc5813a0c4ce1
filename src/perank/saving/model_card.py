"""The model card of a saved model: README.md with front matter that the Hub reads, figures from metrics.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perank.errors import BadInput
from perank.files import atomic_write, read_json
from perank.saving.config import SavedConfig, read_saved_config

_TASK = "text-ranking"


def write_model_card(
    folder: str | os.PathLike[str],
    *,
    name: str,
    metrics: str | os.PathLike[str] | None = None,
    system: str = "PE-Rank",
    license: str | None = None,
    datasets: Sequence[str] = (),
) -> Path:
    """Fill the front matter of a saved model's README.md; its text stays. Return the file.

    `metrics` is the metrics.json of an evaluation, whose figures of `system` become the `model-index`. `datasets` and
    base models are Hub ids: names that aren't (folders, packages) are left out of `base_model`. Raises `BadInput` for
    another folder, and if metrics.json has no figures of that system.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    folder = Path(folder)
    figures = [] if metrics is None else _figures(Path(metrics), system)
    data = ModelCardData(
        model_name=name,
        base_model=_base_models(read_saved_config(folder)) or None,
        datasets=list(datasets) or None,
        license=license,
        library_name="perank",
        pipeline_tag=_TASK,
        tags=["reranking", "listwise", "pe-rank"],
        metrics=list(dict.fromkeys(figure["metric_type"] for figure in figures)) or None,
        eval_results=[EvalResult(task_type=_TASK, **figure) for figure in figures] or None,
    )
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=True)
    with atomic_write(folder / "README.md") as file:
        file.write(f"---\n{data.to_yaml()}\n---\n{card.text}")
    return folder / "README.md"


def _base_models(config: SavedConfig) -> list[str]:
    """LLM and encoder, if they are on the Hub."""
    names = [config.llm.name, config.encoder.name]
    return [name for name in names if name.count("/") == 1 and name[0].isalnum() and ":" not in name]


def _figures(path: Path, system: str) -> list[dict[str, Any]]:
    """One figure per suite and metric."""
    entries = read_json(path)
    found = [entry for entry in entries.values() if entry.get("system") == system] if isinstance(entries, dict) else []
    if not found:
        raise BadInput(f"no figures of {system!r}", remedy="name the system that was evaluated", path=path)
    return [
        {"dataset_type": entry["suite"], "dataset_name": entry["suite"], "metric_type": metric, "metric_value": value}
        for entry in found
        for metric, value in entry["means"].items()
    ]
