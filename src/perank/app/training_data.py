"""The rows a stage trains on, from config groups to its LightningDataModule."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from perank.app.settings import as_dict, check_arguments, check_type
from perank.errors import BadInput
from perank.preparation.training_rows import RowTeacher, training_rows
from perank.training.rows import RankRow

if TYPE_CHECKING:
    from perank.app.assembly import Assembly

log = logging.getLogger(__name__)

_DRAWING = ("rows", "rows_path", "candidates", "pools", "pool_depth")  # settings of `data` that say which rows
_PARTS = ("collection", "first_stage", "store", "query_vectors", "teacher", "seed")


def data_of(assembly: Assembly) -> Any:
    """The data module of the configured stage. Raises `BadInput` for settings or rows it can't use."""
    data = {"align": _align_data, "rank": _rank_data, "listwise": _listwise_data}[assembly.config.stage.name](assembly)
    if data.dropped:
        log.warning("%d of %d rows left out: no text, one passage, or too long", data.dropped, data.dropped + data.rows)
    return data


def _align_data(assembly: Assembly) -> Any:
    from perank.training.align_data import AlignData

    settings = as_dict(assembly.config.data)
    rows = settings.pop("rows", None)
    check_type(rows, int | None, "data.rows")
    if rows is not None and rows < 1:
        raise BadInput(f"{rows} texts to align on", remedy="use 1 or more, or null for all", id="data.rows")
    check_arguments(AlignData, settings, "data", ("passages", "vectors", "prompts", "seed", "instructions"))
    passages = list(assembly.collection.passages.values())[:rows]
    return AlignData(passages, assembly.store, assembly.prompts, seed=assembly.config.seed, **settings)


def _rank_data(assembly: Assembly) -> Any:
    from perank.training.rank_data import RankData

    settings, rows = _settings_and_rows(assembly)
    check_arguments(RankData, settings, "data", ("rows", "vectors", "prompts", "text_of", "query_vectors", "seed"))
    loss = assembly.make("loss")
    if loss.feedback and settings.get("shuffle", True):
        problem = "the prompt's first passages are the first stage's best only where the prompt keeps its order"
        raise BadInput(problem, remedy="set data.shuffle=false, or loss.feedback=[]", id="loss.feedback")
    wants_query = assembly.config.prompt.query_slot or assembly.config.residual or loss.needs_query_vectors
    if wants_query:
        assembly.query_vectors.get([row.query.id for row in rows])  # now: a worker should neither encode nor find gaps
    return RankData(
        rows,
        assembly.store,
        assembly.prompts,
        text_of=assembly.collection.passages if loss.needs_content else None,
        query_vectors=assembly.query_vectors if wants_query else None,
        seed=assembly.config.seed,
        **settings,
    )


def _listwise_data(assembly: Any) -> Any:
    from perank.sources.views import text_view
    from perank.training.listwise_data import ListwiseData

    settings, rows = _settings_and_rows(assembly)
    text = settings.pop("text", "contents")
    check_type(text, str, "data.text")
    check_arguments(ListwiseData, settings, "data", ("rows", "passages", "prompts", "view", "seed", "shuffle"))
    return ListwiseData(
        rows,
        assembly.collection.passages,
        assembly.prompts,
        view=text_view(text),
        seed=assembly.config.seed,
        **settings,
    )


def _settings_and_rows(assembly: Assembly) -> tuple[dict[str, Any], list[RankRow]]:
    """The settings of `data` that don't say which rows, and the rows: the same for vectors and for texts."""
    settings = as_dict(assembly.config.data)
    drawing = {key: settings.pop(key) for key in _DRAWING if key in settings}
    check_arguments(training_rows, drawing, "data", _PARTS)
    rows = training_rows(
        assembly.collection,
        assembly.make("first_stage"),
        assembly.store,
        assembly.query_vectors,
        teacher=RowTeacher(**assembly.settings("teacher", RowTeacher)),
        seed=assembly.config.seed,
        **drawing,
    )
    return settings, rows
