"""Build the LightningDataModule of each training stage from config groups."""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from perank.app.inputs import Inputs
from perank.app.settings import as_dict, check_arguments, check_type, instantiate
from perank.errors import BadInput, check_least
from perank.preparation.drawn_rows import RowSettings, RowSources, training_rows
from perank.preparation.teachers import Teacher
from perank.training.align_data import AlignData, AlignSettings
from perank.training.listwise_data import ListwiseData, ListwiseSettings
from perank.training.rank_data import RankData, RankSettings
from perank.training.read_data import ReadData, ReadSettings

_ROWS = ("rows", "rows_path", "candidates", "pools", "pool_depth")  # settings of `data` that select rows


def align_data(inputs: Inputs) -> AlignData:
    """Build the data of stage 1. Raises `BadInput` for invalid settings or texts."""
    settings = as_dict(inputs.config.data)
    rows = settings.pop("rows", None)
    check_type(rows, int | None, "data.rows")
    check_least("data", 1, rows=rows)
    check_arguments(AlignSettings, settings, "data", ("seed",))
    passages = list(inputs.collection.passages.values())[:rows]
    return AlignData(passages, inputs.store, inputs.prompts, AlignSettings(**settings, seed=inputs.config.seed))


def rank_data(inputs: Inputs) -> RankData:
    """Build the data of stage 2. Raises `BadInput` for invalid settings or rows."""
    anchors = inputs.anchors
    placed = anchors if anchors is not None and anchors.needs_origin else None
    settings, rows = _settings_and_rows(inputs, None if placed is None else placed.first)
    check_arguments(RankSettings, settings, "data", ("seed", "anchors"))
    config, loss = inputs.config, inputs.make("loss")
    if loss.feedback and settings.get("shuffle", True):
        problem = "feedback needs the first stage's best passages first, but the prompt order is shuffled"
        raise BadInput(problem, remedy="set data.shuffle=false, or loss.feedback=[]", id="loss.feedback")
    wants_query = config.prompt.query_slot or loss.needs_query_vectors or (anchors and anchors.cosine is not None)
    if wants_query:
        inputs.query_vectors.get([row.query.id for row in rows])  # encode now, not in a data worker
    return RankData(
        rows,
        inputs.store,
        inputs.prompts,
        RankSettings(**settings, seed=config.seed, anchors=placed),
        text_of=inputs.collection.passages if loss.needs_content else None,
        query_vectors=inputs.query_vectors if wants_query else None,
    )


def listwise_data(inputs: Inputs) -> ListwiseData:
    """Build the data of RankMistral, from the rows of stage 2."""
    settings, rows = _settings_and_rows(inputs)
    check_arguments(ListwiseSettings, settings, "data", ("seed",))
    passages, found = inputs.collection.passages, ListwiseSettings(**settings, seed=inputs.config.seed)
    return ListwiseData(rows, passages, inputs.prompts, found)


def read_data(inputs: Any) -> ReadData:
    """Build the data of the reading stage: the collection's queries and their targets."""
    settings = as_dict(inputs.config.data)
    check_arguments(ReadSettings, settings, "data", ("seed",))
    texts, ids = list(inputs.collection.queries.values()), list(inputs.collection.passages)
    found = ReadSettings(**settings, seed=inputs.config.seed)
    query_vectors = inputs.query_vectors if inputs.prompts.query_slot else None
    return ReadData(texts, inputs.targets, ids, inputs.store, inputs.prompts, found, query_vectors)


def _settings_and_rows(inputs: Inputs, first: int | None = None) -> tuple[dict[str, Any], list[Any]]:
    """Return the settings of `data` that don't select rows, and the rows, with ranks if `first` is set."""
    settings = as_dict(inputs.config.data)
    which = {key: settings.pop(key) for key in _ROWS if key in settings}
    check_arguments(RowSettings, which, "data", ("seed", "first"))
    rows = RowSettings(**which, seed=inputs.config.seed, first=first)
    return settings, training_rows(row_sources(inputs, rows.depth), teacher_of(inputs.config), rows)


def row_sources(inputs: Inputs, depth: int) -> RowSources:
    """Return the sources of rows; the first stage finds `depth` passages per query."""
    return RowSources(
        collection=inputs.collection,
        first_stage=inputs.first_stage,
        query_vectors=inputs.query_vectors,
        open_store=lambda: inputs.store,
        depth=depth,
    )


def teacher_of(config: DictConfig) -> Teacher:
    """Instantiate the config group `teacher`; a ranker is only loaded when it has to rank."""
    group = config.teacher
    if "ranker" in group:
        others = OmegaConf.masked_copy(group, [key for key in group if key != "ranker"])
        known = {"ranker": partial(instantiate, group.ranker), "made_of": as_dict(group.ranker)}
        teacher: Teacher = instantiate(others, **known, _recursive_=False)
    else:
        teacher = instantiate(group)
    return teacher
