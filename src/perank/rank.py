"""Rerank a TREC run, or queries with passages as JSON lines, into a TREC run or JSON lines; reads no judgements.

Examples:
    python -m perank.rank run=<run file> collection=nfcorpus output=<new run file>       # the model in the package
    python -m perank.rank model=<folder> run=<run file> collection=texts collection.folder=<folder> output=<file>
    python -m perank.rank run=<run file> collection=trec collection.folder=<folder> store=<store>    # vectors, no texts
    python -m perank.rank input=<file> output=<new file>.jsonl    # lines {"query": "...", "passages": ["...", ...]}
    python -m perank.rank input=- | head                          # standard input to standard output

    python -m perank.rank run=<run file> collection=nfcorpus output=<file> devices=4          # GPUs; nodes=2: machines

Rankings are written as they come. Interrupted runs resume: run the same command again, with the same `output`. A
collection's folder without judgements is `collection=texts` (corpus.jsonl, queries.jsonl) or `collection=trec`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from perank.app.commands.reranking import Reranking
from perank.app.jobs import run
from perank.errors import exits_cleanly
from perank.evaluation.ir_metadata import annotate
from perank.sources.ranked_output import ranked_output


def rank(config: DictConfig) -> Path | None:
    """Rank all queries and return the output's path, None for standard output. Raises `BadInput` as its parts do.

    With several devices, the first process reads and writes, and all rank; None on the others.
    """
    job = Reranking(config)
    if config.devices * config.nodes == 1:
        return _written(job)
    shared = job.share()
    if not shared.fabric.is_global_zero:
        shared.serve()
        return None
    try:
        return _written(job)
    finally:
        shared.close()


def _written(job: Reranking) -> Path | None:
    with ranked_output(job.output, job.format, job.known) as (done, write):
        for rankings in job.rankings(done):
            write(rankings)
    if job.output is not None and (header := job.header) is not None:
        annotate(job.output, header)
    return job.output


def _report(config: DictConfig) -> None:
    output = rank(config)
    if output is not None:
        sys.stderr.write(f"written to {output}\n")


@exits_cleanly
def main() -> None:
    """The command line."""
    run("rank", _report)


if __name__ == "__main__":
    main()
