"""What `perank.prepare` makes, one function for each choice of conf/preparation; they return the manifest.

Each takes a config's inputs, and its own settings by name.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from perank.app.inputs import Inputs
from perank.app.settings import as_dict, check_arguments, check_keys
from perank.app.training_data import row_sources, teacher_of
from perank.baselines.encoder_ranker import EncoderRanker
from perank.errors import BadInput, check_least
from perank.preparation import convert_authors as authors
from perank.preparation.fingerprint import passages_digest, questions_digest, settings_of
from perank.preparation.ranking_set import RankingSet, prompt_length, sampled
from perank.preparation.resumable import Resumable, prepared
from perank.preparation.summaries import Summariser, wanted, write_summaries
from perank.preparation.teachers import EncoderTeacher, RankerTeacher, RunTeacher, Teacher
from perank.preparation.text_set import sample_texts, source_digest

Manifest = dict[str, Any]

# Settings that rows depend on, and settings of a teacher that a manifest doesn't name.
_ROWS = ("candidates", "orders", "judged_first", "max_tokens", "minimum", "block")
_NOT_SAID = ("_target_", "judged_first")
_RENAMED = {"perank.baselines.loading.CrossEncoderRanker": "perank.baselines.loading.cross_encoder"}


def ranking(inputs: Inputs, *, output: str, limit: int | None = None, **settings: Any) -> Manifest:
    """Rows of stage 2 from the collection's queries (`RankingSet` takes the settings)."""
    config, teacher = inputs.config, teacher_of(inputs.config)
    if settings.get("judged_first") is None:
        settings["judged_first"] = teacher.judged_first is not False
    check_arguments(RankingSet, settings, "preparation", ("seed",))
    maker = RankingSet(**settings, seed=config.seed)
    teacher, teaches = _taught_by(inputs, teacher)
    asked = as_dict(config.preparation) | {"judged_first": maker.judged_first}
    known = {
        "collection": _collection(inputs),
        "first_stage": settings_of(inputs.first_stage),
        "teacher": teaches,
        "tokens_of": [config.backbone.name, config.prompt.version] if maker.max_tokens else None,
        "preparation": {"limit": limit, **{name: value for name, value in asked.items() if name in _ROWS}},
        "seed": config.seed,
    }

    def make(parts: Resumable) -> Manifest:
        queries = sampled(inputs.collection.queries.values(), limit, config.seed)
        length = prompt_length(inputs.roomy_prompts) if maker.max_tokens else None
        sources = row_sources(inputs, maker.candidates)
        return maker.make(sources, teacher, queries, parts, length, progress=config.progress)

    return prepared(output, "ranking", known, make)


def wikipedia(inputs: Inputs, *, source: str | list[str] | None, output: str, **settings: Any) -> Manifest:
    """A sample of Wikipedia passages for stage 1, as Atlas or DPR publish them (`sample_texts` takes the settings)."""
    check_arguments(sample_texts, settings, "preparation", ("paths", "parts", "seed", "progress"))
    if source is None:
        raise BadInput("there is no file to sample from", remedy="name Atlas' or DPR's", id="preparation.source")
    paths = [Path(path) for path in ([source] if isinstance(source, str) else source)]
    known = {**settings, "seed": inputs.config.seed}
    make = partial(sample_texts, paths, progress=inputs.config.progress, **known)
    return prepared(output, "texts", {"source": source_digest(paths), **known}, make)


def summaries(
    inputs: Inputs, *, output: str, candidates: int | None = None, block: int = 256, **settings: Any
) -> Manifest:
    """The collection's passages in a sentence each (`Summariser` takes the settings); data.text=<output> reads them.

    `candidates` shortens only what the first stage finds for the collection's queries, so many passages per query.
    """
    check_arguments(Summariser, settings, "preparation", ("llm", "prompts"))
    check_least("preparation", 1, candidates=candidates)
    config = inputs.config
    known = {
        "collection": _collection(inputs),
        "first_stage": settings_of(inputs.first_stage) if candidates else None,
        "written_by": as_dict(config.backbone) | {"_target_": "perank.model.llm.LLM"},  # as in manifests that are there
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
    """The authors' "ranking" or "alignment" JSONL as a folder to train on (`collection=texts`)."""
    read = {"ranking": authors.import_ranking, "alignment": authors.import_alignment}
    check_keys([what], read, "preparation.what")
    if source is None:
        raise BadInput("there is no file to read", remedy="name the authors' JSONL", id="preparation.source")
    folder = Path(output)
    return authors.described(f"{what} rows of the authors", read[what](source, folder), folder / "manifest.json")


def to_authors(
    inputs: Inputs, *, what: str, output: str, rows_path: str | None = None, limit: int | None = None
) -> Manifest:
    """The collection's texts ("alignment"), or the rows of a file with its texts ("ranking"), as the authors' JSONL."""
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


def _taught_by(inputs: Inputs, teacher: Teacher) -> tuple[Teacher, list[Any]]:
    """Who orders the candidates of a prepared set, and what its manifest says of that.

    The encoder's order is `EncoderRanker`'s, to the last bit: manifests and unfinished sets of earlier versions stay
    valid, so their words stay too.
    """
    group = {key: value for key, value in as_dict(inputs.config.teacher).items() if key not in _NOT_SAID}
    said = {"kind": type(teacher).__name__.removesuffix("Teacher").lower(), **group}
    if isinstance(teacher, EncoderTeacher):
        teacher = RankerTeacher(ranker=lambda: EncoderRanker(inputs.encoder, inputs.store))
    if isinstance(teacher, RankerTeacher):
        if "ranker" in group:
            group["ranker"]["_target_"] = _RENAMED.get(group["ranker"]["_target_"], group["ranker"]["_target_"])
        return teacher, [said, settings_of(getattr(teacher.loaded, "ranker", teacher.loaded))]
    if isinstance(teacher, RunTeacher):
        return teacher, [said, {"class": "TeacherRanker"}, teacher.identity[0]]
    return teacher, [said, *teacher.identity, dict(inputs.encoder.identity)]
