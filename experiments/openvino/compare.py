"""The encoder through OpenVINO: speed, cosines, and what becomes of rankings by encoder and fusion.

    python experiments/openvino/compare.py [suites=dl19,nfcorpus] [rounds=12] [only=torch bf16,openvino bf16]

Speed is CPU time of one batch, in rounds in which all variants take turns. Vectors of whole suites are kept below
PERANK_CACHE/openvino and reused. `only` limits the variants whose rankings are compared. Writes results.csv beside
this file.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from variants import BASE, LENGTH, NAME, encoders

from perank.app.assembly import Assembly
from perank.baselines.encoder_ranker import best_first
from perank.baselines.fusion import Evidence, Fusion
from perank.evaluation.evaluator import evaluate_run
from perank.evaluation.suites import Suite
from perank.files import CONF_DIR, atomic_write, cache_dir
from perank.model.encoders.encoder import Encoder
from perank.records import Candidates, Ranking
from perank.reporting.rows import ResultRow, rows_from, write_results_csv
from perank.sources.candidates import candidates_run

HERE = Path(__file__).resolve().parent
METRIC = "ndcg@10"
BATCH_TOKENS = 1024
Vectors = dict[str, np.ndarray]


def main() -> None:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    torch.set_num_threads(1)
    made = encoders()
    only = options.get("only", ",".join(made)).split(",")
    rows: list[ResultRow] = []
    for name in options.get("suites", "dl19,nfcorpus").split(","):
        suite = suite_called(name)
        labels = {"study": "openvino", "scale": "embedded", "encoder": NAME, **suite.labels}
        asked = [one for one in suite.candidates() if len(one)]
        rows += speeds(made, asked, int(options.get("rounds", 12)), labels)
        rows += agreements({name: made[name] for name in only}, suite, asked, labels)
    write_results_csv(HERE / "results.csv", rows)
    for row in rows:
        print(f"{row.collection:9} {row.system:28} {row.variant:8} {row.metric:22} {row.value:.5g} {row.p_value or ''}")


def suite_called(name: str) -> Suite:
    """A suite of the project's own, with 100 candidates per query."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return Assembly(compose("evaluate", overrides=[f"suite={name}", f"++suite.{name}.depth=100"])).suites[0]


def speeds(
    made: dict[str, Encoder], asked: Sequence[Candidates], rounds: int, labels: dict[str, Any]
) -> Iterator[ResultRow]:
    """CPU milliseconds and ratios to BASE for a batch of about 1,024 tokens: medians over rounds."""
    texts = batch_of(made[BASE], asked)
    taken: dict[str, list[float]] = {name: [] for name in made}
    names = [*made]
    for turn in range(-1, rounds):  # the first one loads and warms up
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.process_time()
            made[name].encode_passages(texts)
            if turn >= 0:
                taken[name].append(1e3 * (time.process_time() - began))
    for name, values in taken.items():
        ratios = [base / mine for base, mine in zip(taken[BASE], values, strict=True)]
        found = {"cpu_ms_per_batch": statistics.median(values), "speed_to_torch_bf16": statistics.median(ratios)}
        for metric, value in found.items():
            yield ResultRow(system=name, variant="speed", metric=metric, value=value, n_queries=len(texts), **labels)


def batch_of(encoder: Encoder, asked: Sequence[Candidates]) -> list[str]:
    """The first queries' best passages, as many as fit into a batch."""
    texts: list[str] = []
    for one in asked:
        texts.append(one.passages[0].contents)
        ids = encoder.tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
        if sum(map(len, ids)) > BATCH_TOKENS:
            return texts[:-1]
    return texts


def agreements(
    made: dict[str, Encoder], suite: Suite, asked: Sequence[Candidates], labels: dict[str, Any]
) -> Iterator[ResultRow]:
    """Cosines, NDCG@10 with p against BASE, and shares of equal top tens, by encoder and by fusion."""
    base = vectors_of(BASE, made[BASE], suite.name, asked)
    for name, encoder in made.items():
        vectors = vectors_of(name, encoder, suite.name, asked)
        least = min(float(vectors[key] @ base[key]) for key in base)
        yield ResultRow(system=name, variant="vectors", metric="cosine_least", value=least, baseline=BASE, **labels)
        for way in ("encoder", "fusion"):
            mine, theirs = ranked(asked, vectors, way), ranked(asked, base, way)
            ids = [one.query.id for one in asked]
            results = [
                evaluate_run(candidates_run(rankings), suite, system=system, query_ids=ids)
                for system, rankings in ((name, mine), (BASE, theirs))
            ]
            against = [] if name == BASE else results[1:]
            common = labels | {"variant": way}
            yield from (row for row in rows_from(results[0], against, **common) if row.metric == METRIC)
            for metric, value in equal_shares(mine, theirs).items():
                yield ResultRow(system=name, metric=metric, value=value, n_queries=len(asked), baseline=BASE, **common)


def vectors_of(name: str, encoder: Encoder, suite: str, asked: Sequence[Candidates]) -> Vectors:
    """`query <id>` and `passage <id>` -> vector [E]; each part of 256 passages is kept once it is encoded."""
    found: Vectors = {}
    folder = cache_dir() / "openvino" / suite / name.replace(" ", "_")
    queries = {f"query {one.query.id}": one.query.text for one in asked}
    passages = {f"passage {p.id}": p.contents for one in asked for p in one.passages}
    parts = [queries, *(dict([*passages.items()][i : i + 256]) for i in range(0, len(passages), 256))]
    for number, part in enumerate(parts):
        path = folder / f"{number}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            encode = encoder.encode_passages if number else alone(encoder)
            with atomic_write(path, "wb") as file:
                np.save(file, np.asarray(encode([*part.values()])))
        found.update(zip(part, np.load(path), strict=True))
    return found


def alone(encoder: Encoder) -> Any:
    """Each query by itself, as rankers encode it."""
    return lambda texts: np.concatenate([encoder.encode_queries([text]).numpy() for text in texts])


def ranked(asked: Sequence[Candidates], vectors: Vectors, way: str) -> list[Ranking]:
    """Rankings by the cosine, or by cos - 0.05 ln(1 + first-stage rank)."""
    fusion = Fusion(log_rank=0.05 if way == "fusion" else 0.0)
    rankings = []
    for one in asked:
        passages_NE = np.stack([vectors[f"passage {passage.id}"] for passage in one.passages])
        evidence = Evidence(vectors[f"query {one.query.id}"], passages_NE, np.arange(len(one)))
        rankings.append(Ranking(one, best_first(one, fusion.scores(evidence))))
    return rankings


def equal_shares(mine: Sequence[Ranking], theirs: Sequence[Ranking]) -> dict[str, float]:
    """Shares of equal top-ten members, of equal top tens in order, and of equal first ranks.

    Members are counted where there are more than ten candidates: fewer are equal whatever the order.
    """
    tops = [(a.order[:10], b.order[:10]) for a, b in zip(mine, theirs, strict=True)]
    chosen = [(set(a.order[:10]), set(b.order[:10])) for a, b in zip(mine, theirs, strict=True) if len(a.order) > 10]
    return {
        "equal_top_ten_members": statistics.fmean(len(a & b) / 10 for a, b in chosen),
        "equal_top_tens": statistics.fmean(a == b for a, b in tops),
        "equal_first_ranks": statistics.fmean(a[0] == b[0] for a, b in tops),
    }


if __name__ == "__main__":
    main()
