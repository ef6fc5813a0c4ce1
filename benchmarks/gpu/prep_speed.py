"""Passages and queries per second of preparation's parts, and the hours they imply for MS MARCO.

Tokenising, encoding (bge-small's and Jina's shapes, random weights), and exact search over a store of random vectors,
all through the code that `perank.prepare` runs. Texts are made up: about 77 tokens, as MS MARCO's passages.

    python benchmarks/gpu/prep_speed.py --into prep_speed.csv      # about 4 minutes on an H100
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from session import Session, parser

from perank.errors import exits_cleanly
from perank.model.encoders.encoder import Encoder
from perank.planning.shapes import encoder_on_meta
from perank.records import Query
from perank.retrieval.dense import Dense
from perank.retrieval.encoding import StoreOptions, encode_into

PASSAGES, QUERIES = 8_841_823, 502_939  # of MS MARCO; judged training queries
SHAPE = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 12}
WIDE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_SYLLABLES = [a + b for a in "bcdfghklmnprst" for b in "aeiou"]


def main() -> None:
    """Measure and write the rows."""
    options = parser(__doc__)
    options.add_argument("--passages", type=int, default=1_000_000, help="in the store that is searched")
    options.add_argument("--queries", type=int, default=8192)
    options.add_argument("--texts", type=int, default=65_536, help="that are encoded")
    chosen = options.parse_args()
    if chosen.smoke:
        chosen.passages, chosen.queries, chosen.texts = 3000, 8, 64
    shapes = {"tiny": TINY} if chosen.smoke else {"bge-small": SHAPE, "base size": WIDE}
    with TemporaryDirectory() as folder, Session(chosen, study="gpu_prep_speed") as session:
        texts = made_up(chosen.texts)
        for name, shape in session.within(shapes.items()):
            for dtype in session.within(["bfloat16", "float32"]):
                encode(session, Path(folder) / f"{name}-{dtype}", f"{name}, {dtype}", shape, dtype, texts)
        for width in session.within([16] if chosen.smoke else [384, 768]):
            search(session, Path(folder) / f"store-{width}", width, chosen.passages, chosen.queries)


def encode(session: Session, folder: Path, name: str, shape: dict[str, int], dtype: str, texts: list[str]) -> None:
    """Tokenise, encode, and encode into a store; each once, after a warm-up."""
    encoder = random_encoder(folder, shape, dtype, str(session.device))
    encoder.encode_passages(texts[: len(texts) // 8])
    began = time.perf_counter()
    ids = encoder.tokenizer(texts, truncation=True, max_length=encoder.max_length)["input_ids"]
    tokenised = time.perf_counter()
    encoder.encode_passages(texts)
    encoded = time.perf_counter()
    encode_into(folder / "store", enumerated(texts), encoder, StoreOptions(progress=False))
    stored = time.perf_counter()
    tokens = sum(map(len, ids))
    weights = sum(p.numel() for p in encoder_on_meta(encoder).encoder.parameters())
    columns = {"encoder": name}
    session.add("encoder", "tokens_per_passage", tokens / len(texts), **columns)
    rates = {
        "tokenised": tokenised - began,
        "encoded": encoded - tokenised,
        "encoded_into_a_store": stored - encoded,
    }
    for what, seconds in rates.items():
        session.add("encoder", f"passages_{what}_per_second", len(texts) / seconds, **columns)
    session.add("encoder", "flops_per_second", 2 * weights * tokens / (encoded - tokenised), **columns)
    session.add("encoder", "hours_for_ms_marco", PASSAGES * (stored - encoded) / len(texts) / 3600, **columns)


def search(session: Session, folder: Path, width: int, passages: int, queries: int) -> None:
    """Exact search for the top 20, in blocks as `perank.prepare` searches."""
    encoder = RandomEncoder(width)
    ids = (f"p{i}" for i in range(passages))
    store = encode_into(folder, ((id, "") for id in ids), encoder, StoreOptions(batch_size=65_536, progress=False))
    collection: Any = SimpleNamespace(name="random", passages=range(passages), queries={})
    asked = [Query(f"q{i}", "query") for i in range(queries)]
    block = 512 if session.device.type == "cpu" else 8192
    dense = Dense(encoder, store, depth=20, block=block, device=str(session.device))
    dense.search(collection, asked[:2])
    began = time.perf_counter()
    dense.search(collection, asked)
    seconds = time.perf_counter() - began
    columns = {"encoder": f"random, {width} numbers", "candidates": 20, "n_queries": queries}
    session.add("dense search", "passages_in_the_store", passages, **columns)
    session.add("dense search", "queries_per_second", queries / seconds, **columns)
    hours = QUERIES / queries * PASSAGES / passages * seconds / 3600
    session.add("dense search", "hours_for_ms_marco", hours, **columns)


class RandomEncoder:
    """Random unit vectors in place of an encoder's, as fast as they can be drawn."""

    def __init__(self, width: int) -> None:
        self.width, self.identity = width, {"name": f"random-{width}"}

    def encode_passages(self, texts: Sequence[str]) -> torch.Tensor:
        """[B, E], fp32 on the CPU."""
        return torch.nn.functional.normalize(torch.randn(len(texts), self.width), dim=-1)

    encode_queries = encode_passages


def random_encoder(folder: Path, shape: dict[str, int], dtype: str, device: str) -> Encoder:
    """A BERT of that shape with random weights and a vocabulary of made-up words."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_SYLLABLES, *(f"##{s}" for s in _SYLLABLES)]
    words = sorted({a + b for a in _SYLLABLES for b in _SYLLABLES})
    (folder / "vocab.txt").write_text("\n".join([*pieces, *words]), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(pieces) + len(words), **shape)).save_pretrained(folder)
    return Encoder(str(folder), pooling="cls", dtype=dtype, device=device)


def made_up(number: int) -> list[str]:
    """Texts of 38 words of two or four syllables: about 77 tokens."""
    dice = random.Random(0)

    def word() -> str:
        return "".join(dice.choices(_SYLLABLES, k=dice.choice((2, 4))))

    return [" ".join(word() for _ in range(38)) for _ in range(number)]


def enumerated(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Texts with ids."""
    return [(f"p{i}", text) for i, text in enumerate(texts)]


if __name__ == "__main__":
    exits_cleanly(main)()
