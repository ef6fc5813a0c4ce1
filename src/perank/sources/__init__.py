"""Test collections: one source per file, all implementing `perank.records.Collection`.

What sources share, and other packages use, is imported from here: fields, texts, runs and candidates.
"""

from perank.sources.candidates import (
    candidates_run,
    make_candidates,
    passages_by_id,
    relevant_passages,
    strictly_decreasing,
)
from perank.sources.fields import check_new, check_new_pair, finite, integer, near, score, text_in, warn_of_repeats
from perank.sources.texts import StreamedPassages, read_passages, read_queries, text_file
from perank.sources.trec import (
    HEADER_END,
    HEADER_START,
    LazyRuns,
    TrecCollection,
    check_ids,
    read_run,
    run_body,
    run_lines,
    runs_in,
    write_qrels,
    write_run,
)

__all__ = [
    "HEADER_END", "HEADER_START", "LazyRuns", "StreamedPassages", "TrecCollection", "candidates_run", "check_ids",
    "check_new", "check_new_pair", "finite", "integer", "make_candidates", "near", "passages_by_id", "read_passages",
    "read_queries", "read_run", "relevant_passages", "run_body", "run_lines", "runs_in", "score",
    "strictly_decreasing", "text_file", "text_in", "warn_of_repeats", "write_qrels", "write_run",
]  # fmt: skip
