"""A PyTerrier transformer: `bm25 % 100 >> pt.text.get_text(dataset) >> PERank()`."""

from __future__ import annotations

from typing import Any

import pandas
import pyterrier

from perank.adapters.scoring import ranker_or_default, scores_by_position
from perank.errors import BadInput
from perank.records import Candidates, Passage, Query, Ranker

_COLUMNS = ("qid", "query", "docno")


class PERank(pyterrier.Transformer):
    """Rerank results (R -> R): sets `score` and `rank` (from 0), keeps all other columns.

    Candidates are read in the order of `rank` if there is one, else of the rows. Texts are read from `text_field`, and
    titles from a column `title`; a ranker with a store of vectors needs no texts. Raises `BadInput` for a missing
    column and for a document that occurs twice for a query.
    """

    def __init__(self, ranker: Ranker | None = None, *, text_field: str = "text") -> None:
        self.ranker, self.text_field = ranker_or_default(ranker), text_field

    def transform(self, results: pandas.DataFrame) -> pandas.DataFrame:
        """Return the rows of each query in their new order, queries in the order of their first rows."""
        self._check(results)
        if results.empty:
            return results.assign(score=pandas.Series(dtype=float), rank=pandas.Series(dtype=int))
        groups = [rows for _, rows in results.groupby("qid", sort=False)]
        if "rank" in results.columns:
            groups = [rows.sort_values("rank", kind="stable") for rows in groups]
        rankings = self.ranker.rank_batch([self._candidates(rows) for rows in groups])
        pairs = zip(groups, rankings, strict=True)
        scored = pandas.concat([rows.assign(score=scores_by_position(ranking)) for rows, ranking in pairs])
        return pyterrier.model.add_ranks(scored, single_query=False).sort_values(
            ["qid", "rank"], key=self._by_first_row(results), ignore_index=True
        )

    def _candidates(self, rows: pandas.DataFrame) -> Candidates:
        texts = rows[self.text_field] if self.text_field in rows else [""] * len(rows)
        titles = rows["title"] if "title" in rows else [""] * len(rows)
        found = zip(rows["docno"], texts, titles, strict=True)
        query = Query(str(rows["qid"].iloc[0]), str(rows["query"].iloc[0]))
        return Candidates(query, tuple(Passage(str(docno), text, title) for docno, text, title in found))

    def _check(self, results: pandas.DataFrame) -> None:
        needed = _COLUMNS if getattr(self.ranker, "store", None) is not None else (*_COLUMNS, self.text_field)
        missing = [column for column in needed if column not in results.columns]
        if missing:
            remedy = "add texts with pt.text.get_text(...), or give the ranker a store"
            raise BadInput(f"columns are missing: {', '.join(missing)}", remedy=remedy)
        twice = results[results.duplicated(["qid", "docno"])]
        if not twice.empty:
            problem = f"the document occurs twice for query {twice['qid'].iloc[0]!r}"
            raise BadInput(problem, remedy="keep one row of each document", id=str(twice["docno"].iloc[0]))

    @staticmethod
    def _by_first_row(results: pandas.DataFrame) -> Any:
        """Sorting key: the place of a query in the input; ranks as they are."""
        places = {qid: place for place, qid in enumerate(dict.fromkeys(results["qid"]))}
        return lambda column: column.map(places) if column.name == "qid" else column
