"""The functions behind the choices of conf/preparation; each takes inputs and settings, and returns the manifest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from perank.app.inputs import Inputs
from perank.app.settings import as_dict, check_arguments, check_keys
from perank.app.training_data import row_sources, teacher_of
from perank.errors import BadInput, check_distinct, check_least
from perank.preparation import convert_authors as authors
from perank.preparation.fingerprint import passages_digest, questions_digest, settings_of
from perank.preparation.ranking_set import RankingSet, prompt_lengths, sampled
from perank.preparation.resumable import Resumable, prepared
from perank.preparation.summaries import Summariser, wanted, write_summaries
from perank.preparation.teachers import RankerTeacher, RunTeacher, Teacher
from perank.preparation.text_set import sample_texts, source_digest

Manifest = dict[str, Any]

# Settings that the rows depend on, and settings of a teacher that a manifest omits.
_ROWS = ("candidates", "orders", "judged_first", "max_tokens", "minimum", "block")
_NOT_SAID = ("_target_", "judged_first")
_VERSION = 2  # of the rows: they carry ranks in the first stage


def ranking(inputs: Inputs, *, output: str, limit: int | None = None, **settings: Any) -> Manifest:
    """Write rows of stage 2 from the collection's queries (settings: see `RankingSet`)."""
    config, teacher = inputs.config, teacher_of(inputs.config)
    if settings.get("judged_first") is None:
        settings["judged_first"] = teacher.judged_first is not False
    check_arguments(RankingSet, settings, "preparation", ("seed",))
    maker = RankingSet(**settings, seed=config.seed)
    asked = as_dict(config.preparation) | {"judged_first": maker.judged_first}
    known = {
        "version": _VERSION,
        "collection": _collection(inputs),
        "first_stage": settings_of(inputs.first_stage),
        "teacher": _taught_by(inputs, teacher),
        "tokens_of": [config.backbone.name, config.prompt.version] if maker.max_tokens else None,
        "preparation": {"limit": limit, **{name: value for name, value in asked.items() if name in _ROWS}},
        "seed": config.seed,
    }

    def make(parts: Resumable) -> Manifest:
        queries = sampled(inputs.collection.queries.values(), limit, config.seed)
        lengths = prompt_lengths(inputs.roomy_prompts) if maker.max_tokens else None
        sources = row_sources(inputs, maker.candidates)
        return maker.make(sources, teacher, queries, parts, lengths, progress=config.progress)

    return prepared(output, "ranking", known, make)


def wikipedia(inputs: Inputs, *, source: str | list[str] | None, output: str, **settings: Any) -> Manifest:
    """Sample passages for stage 1 from the Wikipedia dumps of Atlas or DPR (settings: see `sample_texts`)."""
    check_arguments(sample_texts, settings, "preparation", ("paths", "parts", "seed", "progress"))
    if source is None:
        raise BadInput("expected a file to sample from", remedy="name that of Atlas or DPR", id="preparation.source")
    paths = [Path(path) for path in ([source] if isinstance(source, str) else source)]
    check_distinct("preparation.source", map(str, paths))
    known = {**settings, "seed": inputs.config.seed}
    make = partial(sample_texts, paths, progress=inputs.config.progress, **known)
    return prepared(output, "texts", {"source": source_digest(paths), **known}, make)


def summaries(
    inputs: Inputs, *, output: str, candidates: int | None = None, block: int = 256, **settings: Any
) -> Manifest:
    """Summarise the collection's passages (settings: see `Summariser`); data.text=<output> reads the result.

    With `candidates`, only the first stage's top `candidates` passages per query are summarised.
    """
    check_arguments(Summariser, settings, "preparation", ("llm", "prompts"))
    check_least("preparation", 1, candidates=candidates)
    config = inputs.config
    known = {
        "collection": _collection(inputs),
        "first_stage": settings_of(inputs.first_stage) if candidates else None,
        "written_by": as_dict(config.backbone) | {"_target_": "perank.model.llm.LLM"},  # as in existing manifests
        "preparation": {"candidates": candidates, "block": block, **settings},
    }

    def make(parts: Resumable) -> Manifest:
        run = inputs.first_stage.search(inputs.collection, depth=candidates) if candidates else None
        llm = inputs.llm.load().to(inputs.device).eval().requires_grad_(False)
        summariser = Summariser(llm, inputs.roomy_prompts, **settings)
        chosen = wanted(inputs.collection, run)
        return write_summaries(chosen, summariser, parts, block=block, progress=config.progress)

    return prepared(output, "summaries", known, make)


def from_authors(inputs: Inputs, *, what: str, source: str | None, output: str) -> Manifest:
    """Convert the authors' "ranking" or "alignment" JSONL to a folder to train on (`collection=texts`)."""
    read = {"ranking": authors.import_ranking, "alignment": authors.import_alignment}
    check_keys([what], read, "preparation.what")
    if source is None:
        raise BadInput("expected a file to convert", remedy="name a JSONL file of the authors", id="preparation.source")
    folder = Path(output)
    return authors.described(f"{what} rows of the authors", read[what](source, folder), folder / "manifest.json")


def to_authors(
    inputs: Inputs, *, what: str, output: str, rows_path: str | None = None, limit: int | None = None
) -> Manifest:
    """Convert the collection's texts ("alignment") or the rows of a file ("ranking") to the authors' JSONL."""
    check_keys([what], ("ranking", "alignment"), "preparation.what")
    path = Path(output)
    if what == "alignment":
        counts = authors.export_alignment(inputs.collection, path, limit)
    elif rows_path is None:
        raise BadInput("there are no rows to write", remedy="name a file of perank.prepare", id="preparation.rows_path")
    else:
        counts = authors.export_ranking(inputs.collection, rows_path, path, limit)
    return authors.described(f"{what} in the authors' form", counts, path.with_name(f"{path.name}.manifest.json"))


def _collection(inputs: Inputs) -> list[Any]:
    return [questions_digest(inputs.collection), passages_digest(inputs.collection)]


def _taught_by(inputs: Inputs, teacher: Teacher) -> list[Any]:
    """Return a teacher's settings and what else its order depends on, as JSON values."""
    group = {key: value for key, value in as_dict(inputs.config.teacher).items() if key not in _NOT_SAID}
    said = {"kind": type(teacher).__name__.removesuffix("Teacher").lower(), **group}
    if isinstance(teacher, RankerTeacher):
        return [said, settings_of(getattr(teacher.loaded, "ranker", teacher.loaded))]
    encoder = [] if isinstance(teacher, RunTeacher) else [dict(inputs.encoder.identity)]
    return [said, *teacher.identity, *encoder]
