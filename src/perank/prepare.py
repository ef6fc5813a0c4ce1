"""Prepare training sets: rows to rank, texts to align on, summaries, and the authors' JSONL in either direction.

Examples:
    python -m perank.prepare collection=beir collection.folder=<folder>      # then data.rows_path=data/beir.rows.jsonl
    python -m perank.prepare preparation=msmarco                             # section 4.2 of the paper; wants a GPU
    python -m perank.prepare preparation=wikipedia preparation.source=<text-list-100-sec.jsonl>
    python -m perank.prepare preparation=summaries collection=nfcorpus       # then data.text=<output>
    python -m perank.prepare preparation=from_authors preparation.source=<train.jsonl>

Writes the set to `preparation.output` with a manifest next to it (settings, counts, statistics, checksum). Interrupted
runs resume: the same command ends with the same bytes; a finished set is left as it is.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from perank.app.assembly import Assembly
from perank.app.jobs import run
from perank.app.settings import as_dict, check_arguments, check_keys, check_type, import_target, instantiate
from perank.baselines.encoder_ranker import EncoderRanker
from perank.baselines.model_loading import device_of
from perank.errors import BadInput, exits_cleanly
from perank.files import file_lock, write_json
from perank.model.prompts import PromptBuilder
from perank.preparation import convert_authors as authors
from perank.preparation.fingerprint import file_digest, fingerprint, passages_digest, questions_digest, settings_of
from perank.preparation.ranking_set import Length, RankingSet, sampled
from perank.preparation.resumable import Resumable, json_line
from perank.preparation.row_statistics import RankingStatistics, counted
from perank.preparation.summaries import Summariser, wanted, write_summaries
from perank.preparation.teachers import RunTeacher, TeacherRanker
from perank.preparation.text_set import sample_texts, source_digest
from perank.ranking.text_decoding import TextDecoder
from perank.records import Candidates, Ranker
from perank.sources.trec import read_run
from perank.sources.wikipedia import wikipedia_lines

log = logging.getLogger(__name__)


def prepare(config: DictConfig) -> dict[str, Any]:
    """Make what `config.preparation` says; the manifest. Raises `BadInput` for settings and sources it can't use."""
    for key, kind in {"seed": int, "device": str, "progress": bool}.items():
        check_type(config[key], kind, key)
    settings = as_dict(config.preparation)
    make = import_target(settings.pop("_target_"), "preparation")
    check_arguments(make, settings, "preparation", ("assembly",))
    output = Path(settings["output"])
    with file_lock(output.parent / f".{output.name}.lock"):
        manifest: dict[str, Any] = make(Assembly(config), **settings)
    return manifest


def ranking(assembly: Assembly, *, output: str, limit: int | None = None, **settings: Any) -> dict[str, Any]:
    """Rows of stage 2 from the collection's queries (`RankingSet` takes the settings)."""
    check_arguments(RankingSet, settings, "preparation", ("seed",))
    config, maker = assembly.config, RankingSet(**settings, seed=assembly.config.seed)
    queries = sampled(assembly.collection.queries.values(), limit, config.seed)
    if (device := device_of(config.device)) != "cpu":
        assembly.encoder = assembly.make("encoder", device=device)
    first_stage, teacher = _first_stage(assembly, device), _teacher(assembly)
    known = {
        "collection": [questions_digest(assembly.collection), passages_digest(assembly.collection)],
        "first_stage": settings_of(first_stage),
        "teacher": [as_dict(config.teacher), settings_of(teacher), *_run_digest(config)],
        "tokens_of": [config.backbone.name, config.prompt.version] if maker.max_tokens else None,
        "preparation": {"limit": limit, **{k: v for k, v in as_dict(config.preparation).items() if k in _ROWS}},
        "seed": config.seed,
    }
    begun = Resumable(output, fingerprint(known))
    if (manifest := begun.finished()) is not None:
        return manifest
    length = _length(assembly) if maker.max_tokens else None
    maker.build(assembly.collection, queries, first_stage, teacher, begun, length, progress=config.progress)
    statistics = RankingStatistics()
    entries = (entry for part in begun.read("rows-") for entry in part["queries"])
    authors.write_lines(output, map(json_line, counted(entries, statistics)))
    return begun.finish({"kind": "ranking", **known, "statistics": statistics.as_dict()})


def wikipedia(
    assembly: Assembly,
    *,
    source: str | list[str] | None,
    output: str,
    rows: int,
    limit: int | None = None,
    chunk: int = 250_000,
) -> dict[str, Any]:
    """A sample of Wikipedia passages for stage 1, as Atlas or DPR publish them."""
    if source is None:
        raise BadInput("there is no file to sample from", remedy="name Atlas' or DPR's", id="preparation.source")
    paths = [Path(path) for path in ([source] if isinstance(source, str) else source)]
    config = assembly.config
    known = {"source": source_digest(paths), "rows": rows, "limit": limit, "chunk": chunk, "seed": config.seed}
    begun = Resumable(output, fingerprint(known))
    if (manifest := begun.finished()) is not None:
        return manifest
    read = partial(wikipedia_lines, paths)
    made_of = sample_texts(read, begun, rows=rows, seed=config.seed, limit=limit, chunk=chunk, progress=config.progress)
    return begun.finish({"kind": "texts", **known, "statistics": made_of})


def summaries(
    assembly: Assembly, *, output: str, candidates: int | None = None, block: int = 256, **settings: Any
) -> dict[str, Any]:
    """The collection's passages in a sentence each (`Summariser` takes the settings); data.text=<output> reads them.

    `candidates` shortens only what the first stage finds for the collection's queries, so many passages a query.
    """
    check_arguments(Summariser, settings, "preparation", ("writer", "prompts"))
    if candidates is not None and candidates < 1:
        raise BadInput(f"candidates is {candidates}", remedy="use 1 or more, or null", id="preparation.candidates")
    config, device = assembly.config, device_of(assembly.config.device)
    first_stage = _first_stage(assembly, device) if candidates else None
    known = {
        "collection": [questions_digest(assembly.collection), passages_digest(assembly.collection)],
        "first_stage": settings_of(first_stage) if first_stage else None,
        "written_by": as_dict(config.backbone),
        "preparation": {"candidates": candidates, "block": block, **settings},
    }
    begun = Resumable(output, fingerprint(known))
    if (manifest := begun.finished()) is not None:
        return manifest
    run = first_stage.search(assembly.collection, depth=candidates) if first_stage else None
    prompts = PromptBuilder(assembly.llm.tokenizer(), config.prompt.version, max_length=1 << 30)
    writer = TextDecoder(assembly.llm.load().to(device).eval().requires_grad_(False), prompts.tokenizer)
    summariser = Summariser(writer, prompts, **settings)
    chosen = wanted(assembly.collection, run)
    statistics = write_summaries(chosen, summariser, begun, block=block, progress=config.progress)
    return begun.finish({"kind": "summaries", **known, "statistics": statistics})


def from_authors(assembly: Assembly, *, what: str, source: str | None, output: str) -> dict[str, Any]:
    """The authors' "ranking" or "alignment" JSONL as a folder to train on (`collection=texts`)."""
    check_keys([what], ("ranking", "alignment"), "preparation.what")
    if source is None:
        raise BadInput("there is no file to read", remedy="name the authors' JSONL", id="preparation.source")
    read = authors.import_ranking if what == "ranking" else authors.import_alignment
    return _described(
        {"kind": f"{what} rows of the authors"}, read(source, Path(output)), Path(output) / "manifest.json"
    )


def to_authors(
    assembly: Assembly, *, what: str, output: str, rows_path: str | None = None, limit: int | None = None
) -> dict[str, Any]:
    """The collection's texts ("alignment"), or the rows of a file with its texts ("ranking"), as the authors' JSONL."""
    check_keys([what], ("ranking", "alignment"), "preparation.what")
    path = Path(output)
    if what == "alignment":
        counts = authors.export_alignment(assembly.collection, path, limit)
    elif rows_path is None:
        raise BadInput("there are no rows to write", remedy="name a file of perank.prepare", id="preparation.rows_path")
    else:
        counts = authors.export_ranking(assembly.collection, rows_path, path, limit)
    return _described({"kind": f"{what} in the authors' form"}, counts, path.with_name(f"{path.name}.manifest.json"))


def _described(manifest: dict[str, Any], counts: dict[str, int], path: Path) -> dict[str, Any]:
    manifest |= {"statistics": counts}
    write_json(path, manifest)
    return manifest


_ROWS = ("candidates", "orders", "judged_first", "max_tokens", "minimum", "block")


def _first_stage(assembly: Assembly, device: str) -> Any:
    """The retriever, dense or not."""
    group, progress = assembly.config.first_stage, assembly.config.progress
    if "encoder" not in group:
        return assembly.make("first_stage", progress=progress)
    block = 512 if device == "cpu" else 8192  # a block's scores: 32 and 512 MiB
    others = OmegaConf.masked_copy(group, [key for key in group if key != "encoder"])
    return instantiate(others, encoder=assembly.encoder, device=device, block=block, progress=progress)


def _teacher(assembly: Assembly) -> Ranker:
    """Whoever orders candidates: the encoder, a run file, or any `Ranker` that the config names."""
    settings = assembly.config.teacher
    if settings.kind == "encoder":
        return EncoderRanker(assembly.encoder, assembly.store)
    if settings.kind == "run":
        return TeacherRanker(RunTeacher(read_run(settings.path)))
    if settings.kind != "ranker":
        problem = f"there is no teacher of kind {settings.kind!r}"
        raise BadInput(problem, remedy="choose encoder, run or ranker", id="teacher.kind")
    ranker = instantiate(settings.ranker)
    if not isinstance(ranker, Ranker):
        raise BadInput("the teacher ranks nothing", remedy="name a class with rank_batch", id="teacher.ranker")
    return ranker


def _run_digest(config: DictConfig) -> list[str]:
    return [file_digest(config.teacher.path)] if config.teacher.kind == "run" else []


def _length(assembly: Assembly) -> Length:
    """Tokens of the prompt with whole texts, as the backbone's tokenizer counts them."""
    prompts = PromptBuilder(assembly.llm.tokenizer(), assembly.config.prompt.version, max_length=1 << 30)

    def length(candidates: Candidates) -> int:
        texts = [passage.contents for passage in candidates.passages]
        return len(prompts.rank_with_text(candidates.query.text, texts))

    return length


@exits_cleanly
def main() -> None:
    """The command line."""
    run("prepare", _report)


def _report(config: DictConfig) -> None:
    from rich.console import Console

    manifest = prepare(config)
    console = Console()
    console.print(OmegaConf.to_yaml({config.preparation.output: manifest["statistics"]}), highlight=False)


if __name__ == "__main__":
    main()
