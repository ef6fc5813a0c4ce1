"""The rows a stage trains on, from config groups to its LightningDataModule."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from perank.data.rows import RankRow
from perank.errors import BadInput
from perank.preparation.training_rows import RowTeacher, training_rows
from perank.settings import check, check_type, plain

if TYPE_CHECKING:
    from perank.assemble import Assembly

log = logging.getLogger(__name__)

_DRAWING = ("rows", "rows_path", "candidates", "pools", "pool_depth")  # settings of `data` that say which rows
_PARTS = ("collection", "first_stage", "store", "query_vectors", "teacher", "seed")


def data_of(parts: Assembly) -> Any:
    """The data module of the configured stage. Raises `BadInput` for settings or rows it can't use."""
    data = {"align": _align_data, "rank": _rank_data, "listwise": _listwise_data}[parts.config.stage.name](parts)
    if data.dropped:
        log.warning("%d of %d rows left out: no text, one passage, or too long", data.dropped, data.dropped + data.rows)
    return data


def _align_data(parts: Assembly) -> Any:
    from perank.data.align import AlignData

    settings = plain(parts.config.data)
    rows = settings.pop("rows", None)
    check_type(rows, int | None, "data.rows")
    if rows is not None and rows < 1:
        raise BadInput(f"{rows} texts to align on", remedy="use 1 or more, or null for all", id="data.rows")
    check(AlignData, settings, "data", ("passages", "vectors", "prompts", "seed", "instructions"))
    passages = list(parts.collection.passages.values())[:rows]
    return AlignData(passages, parts.store, parts.prompts, seed=parts.config.seed, **settings)


def _rank_data(parts: Assembly) -> Any:
    from perank.data.rank import RankData

    settings, rows = _settings_and_rows(parts)
    check(RankData, settings, "data", ("rows", "vectors", "prompts", "text_of", "query_vectors", "seed"))
    loss = parts.make("loss")
    if loss.feedback and settings.get("shuffle", True):
        problem = "the prompt's first passages are the first stage's best only where the prompt keeps its order"
        raise BadInput(problem, remedy="set data.shuffle=false, or loss.feedback=[]", id="loss.feedback")
    wants_query = parts.config.prompt.query_slot or parts.config.residual or loss.needs_query_vectors
    if wants_query:
        parts.query_vectors.get([row.query.id for row in rows])  # now: a worker should neither encode nor find gaps
    return RankData(
        rows,
        parts.store,
        parts.prompts,
        text_of=parts.collection.passages if loss.needs_content else None,
        query_vectors=parts.query_vectors if wants_query else None,
        seed=parts.config.seed,
        **settings,
    )


def _listwise_data(parts: Any) -> Any:
    from perank.data.listwise import ListwiseData
    from perank.sources.views import text_view

    settings, rows = _settings_and_rows(parts)
    text = settings.pop("text", "contents")
    check_type(text, str, "data.text")
    check(ListwiseData, settings, "data", ("rows", "passages", "prompts", "view", "seed", "shuffle"))
    return ListwiseData(
        rows,
        parts.collection.passages,
        parts.prompts,
        view=text_view(text),
        seed=parts.config.seed,
        **settings,
    )


def _settings_and_rows(parts: Assembly) -> tuple[dict[str, Any], list[RankRow]]:
    """The settings of `data` that don't say which rows, and the rows: the same for vectors and for texts."""
    settings = plain(parts.config.data)
    drawing = {key: settings.pop(key) for key in _DRAWING if key in settings}
    check(training_rows, drawing, "data", _PARTS)
    rows = training_rows(
        parts.collection,
        parts.make("first_stage"),
        parts.store,
        parts.query_vectors,
        teacher=RowTeacher(**parts.settings("teacher", RowTeacher)),
        seed=parts.config.seed,
        **drawing,
    )
    return settings, rows
