"""Prepare training sets: rows to rank, texts to align on, summaries, and the authors' JSONL in either direction.

Examples:
    python -m perank.prepare collection=beir collection.folder=<folder>      # then data.rows_path=data/beir.rows.jsonl
    python -m perank.prepare preparation=msmarco                             # section 4.2 of the paper; needs a GPU
    python -m perank.prepare preparation=wikipedia preparation.source=<text-list-100-sec.jsonl>
    python -m perank.prepare preparation=summaries collection=nfcorpus       # then data.text=<output>
    python -m perank.prepare preparation=from_authors preparation.source=<train.jsonl>

Writes the set to `preparation.output` with a manifest next to it (settings, counts, statistics, checksum). Interrupted
runs resume and give the same bytes; a finished set is not written again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from perank.app.commands.processes import share_cores
from perank.app.inputs import Inputs
from perank.app.jobs import run
from perank.app.settings import as_dict, check_arguments, import_target
from perank.errors import BadInput, exits_cleanly
from perank.files import file_lock


def prepare(config: DictConfig) -> dict[str, Any]:
    """Run `config.preparation` and return the manifest. Raises `BadInput` for invalid settings and sources."""
    from perank.baselines.model_loading import device_of

    settings = as_dict(config.preparation)
    make = import_target(settings.pop("_target_", None), "preparation")
    check_arguments(make, settings, "preparation", ("inputs",))
    output, device = Path(settings["output"]), device_of(config.device)
    if not output.name:
        raise BadInput("expected a file to write", remedy="name one", path=output, id="preparation.output")
    share_cores(on_cpu=device == "cpu")
    with file_lock(output.parent / f".{output.name}.lock"):
        manifest: dict[str, Any] = make(Inputs(config, device=device), **settings)
    return manifest


@exits_cleanly
def main() -> None:
    """The command line."""
    run("prepare", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    manifest = prepare(config)
    statistics = OmegaConf.to_yaml({config.preparation.output: manifest["statistics"]})
    Console().print(statistics, highlight=False)


if __name__ == "__main__":
    main()
