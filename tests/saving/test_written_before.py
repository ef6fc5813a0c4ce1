"""Files of version 0.1.0, spelled out here by hand: saved models, projectors and stores of that form keep loading.

`experiments/robustness/written_before.py` does the same with files that an earlier checkout writes, and with runs.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from perank.model.anchors import AnchorSettings
from perank.model.llm import LLMSettings
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.model.projector_io import load_projector
from perank.ranking.reranker import Reranker
from perank.ranking.vectors import check_store
from perank.ranking.windows import Windows
from perank.records import Passage
from perank.retrieval.encoding import StoreOptions, cached_store, encode_into
from perank.retrieval.store import EmbeddingStore
from perank.saving.hub import from_pretrained
from perank.saving.saved_text_ranker import load_text_ranker
from support import tiny
from support.fake_encoders import HashEncoder

LAYER = "llm.model.layers.0.self_attn.q_proj"
LORA = {"r": 2, "alpha": 6, "dropout": 0.0, "targets": ["q_proj"]}


@pytest.fixture
def llm(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tiny.tiny_llm(3, layers=1).save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def adapters() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"lora_A": (2, 32), "lora_B": (32, 2)}
    return {
        f"{LAYER}.{half}.default.weight": torch.randn(shape, generator=generator) * 0.3
        for half, shape in shapes.items()
    }


@pytest.fixture
def projector() -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in tiny.tiny_model(1).projector.float().state_dict().items()}


def write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps({**config, "sha256": digest}))
    return folder


def merged(llm: Path, adapters: dict[str, torch.Tensor]) -> Any:
    """The LLM with alpha / r times B A added to the layer by hand."""
    model = LLMSettings(name=str(llm)).load()
    a_RI, b_OR = (adapters[f"{LAYER}.lora_{half}.default.weight"] for half in "AB")
    with torch.no_grad():
        model.get_submodule(LAYER.removeprefix("llm.")).weight += 3.0 * b_OR @ a_RI
    return model


def test_a_saved_model_has_its_weights_settings_and_rankings(
    llm: Path, adapters: dict[str, torch.Tensor], projector: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    encoder = tiny.tiny_encoder(tmp_path / "encoder")
    config = {
        "format": 1,
        "perank": "0.1.0",
        "llm": {"name": str(llm), "revision": None, "num_layers": None, "lora": LORA},
        "encoder": {
            **{"name": encoder.name, "revision": None, "pooling": "mean"},
            **{"query_prefix": "query : ", "passage_prefix": "", "max_length": 32},
        },
        "projector": {"width_in": 8, "width_out": 32},
        "prompt": {"version": "compact", "query_slot": False, "max_length": 300, "text_tokens": 9},
        **{"score_scale": 0.7, "residual": 0.25, "window": 4, "step": 2},
    }
    tensors = {f"projector.{key}": value for key, value in projector.items()} | adapters
    found = from_pretrained(write(tmp_path / "saved", config, tensors), dtype="float32")
    by_hand = Projector(8, 32)
    by_hand.load_state_dict(projector)
    model = PERank(merged(llm, adapters), by_hand, score_scale=0.7, anchors=AnchorSettings(cosine=0.25)).eval()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value)
    assert (found.window, found.step, found.encoder.query_prefix, found.prompts.max_length) == (4, 2, "query : ", 300)
    ranker = Reranker.from_pretrained(tmp_path / "saved", dtype="float32")
    same = Reranker(model, tiny.tiny_prompts(max_length=300), found.encoder, windows=Windows(4, 2))
    assert ranker.rank_batch([tiny.FIVE])[0].order == same.rank_batch([tiny.FIVE])[0].order


def test_a_saved_text_ranker_has_its_weights_and_settings(
    llm: Path, adapters: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    config = {
        "format": "listwise-1",
        "perank": "0.1.0",
        "llm": {"name": str(llm), "revision": None, "num_layers": None, "lora": LORA},
        "prompt": {"version": "compact", "max_length": 256, "text_tokens": 48},
        **{"text": "title", "window": 5, "step": 3},
    }
    found = load_text_ranker(write(tmp_path / "saved", config, adapters), dtype="float32")
    for name, value in merged(llm, adapters).state_dict().items():
        torch.testing.assert_close(found.llm.state_dict()[name], value)
    assert (found.text, found.window, found.step, found.prompts.text_tokens) == ("title", 5, 3, 48)


def test_both_projector_files_are_read(projector: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(projector, tmp_path / "projector.safetensors")
    torch.save({f"model.projector.{key}": value for key, value in projector.items()}, tmp_path / "projector.bin")
    for name in ("projector.safetensors", "projector.bin"):
        found = Projector(8, 32)
        load_projector(found, tmp_path / name)
        assert all(torch.equal(value, projector[key]) for key, value in found.state_dict().items())


IDS, TEXTS = ["p0", "p1", "p2"], ["text of p0", "text of p1", "text of p2"]


def shard_of(ids: list[str], vectors: np.ndarray) -> bytes:
    """Vectors, zeros up to 8 bytes, offsets of the ids, their hashes ascending with each one's row, the ids."""
    ends = np.cumsum([0, *map(len, ids)]).astype("<u8")
    hashes = [int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little") for id in ids]
    order = sorted(range(len(ids)), key=hashes.__getitem__)
    numbers = [*ends.tolist(), *(hashes[row] for row in order), *order]
    content = vectors.astype("<f2").tobytes()
    return content + bytes(-len(content) % 8) + np.array(numbers, "<u8").tobytes() + "".join(ids).encode()


def write_store(folder: Path, shards: list[bytes], sizes: list[int], index: bytes | None) -> None:
    """A store whose shards hold so many of the texts."""
    folder.mkdir()
    records, first = [], 0
    for number, (content, size) in enumerate(zip(shards, sizes, strict=True)):
        (folder / f"shard-{number:05d}.bin").write_bytes(content)
        pairs = list(zip(IDS, TEXTS, strict=True))[first : first + size]
        parts = [part.encode() for pair in pairs for part in pair]
        texts = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()
        digest = hashlib.sha256(content).hexdigest()
        records.append({"rows": size, "bytes": len(content), "sha256": digest, "texts": texts})
        first += size
    if index is not None:
        (folder / f"index-{first:010d}.bin").write_bytes(index)
    manifest = {
        "format": 1,
        "identity": dict(HashEncoder().identity),
        **{"width": HashEncoder().width, "dtype": "float16", "shard_rows": 2, "shards": records},
        "index": None if index is None else hashlib.sha256(index).hexdigest(),
    }
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**manifest, "digest": digest}))


def test_a_whole_store_gives_its_vectors_and_a_half_finished_one_is_finished(tmp_path: Path) -> None:
    encoder = HashEncoder()
    vectors = np.stack([encoder.vector(text) for text in TEXTS])
    shards = [shard_of(IDS[:2], vectors[:2]), shard_of(IDS[2:], vectors[2:])]
    hashes = {id: int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "little") for id in IDS}
    order = sorted(range(3), key=lambda row: hashes[IDS[row]])
    index = np.array([*(hashes[IDS[row]] for row in order), *order], "<u8").tobytes()
    write_store(tmp_path / "whole", shards, [2, 1], index)
    write_store(tmp_path / "half", shards[:1], [2], None)
    store = EmbeddingStore.open(tmp_path / "whole", encoder.identity)
    store.verify()
    np.testing.assert_array_equal(store.get(["p2", "p0"]), vectors[[2, 0]].astype(np.float16).astype(np.float32))
    assert not EmbeddingStore.open(tmp_path / "half").complete
    items = dict(zip(IDS, TEXTS, strict=True))
    encode_into(tmp_path / "half", items, encoder, StoreOptions(shard_rows=2, progress=False))
    for name in ("shard-00000.bin", "shard-00001.bin", "index-0000000003.bin"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("computed", ["bfloat16", "float32", "float16"])
def test_a_cached_store_whose_name_says_its_encoders_type_is_found_by_every_type(
    own_cache: Path, computed: str
) -> None:
    """Its name was a digest of the encoder's settings with the type, the number of passages, and their texts."""
    settings = {"name": "hash", "pooling": "mean", "dtype": computed}
    parts = [part.encode() for pair in zip(IDS, TEXTS, strict=True) for part in pair]
    texts = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part for part in parts)).hexdigest()
    described = "\n".join([json.dumps(settings, sort_keys=True), "3", texts])
    name = f"corpus-{hashlib.sha256(described.encode()).hexdigest()[:16]}"
    items = dict(zip(IDS, TEXTS, strict=True))
    encode_into(own_cache / "embeddings" / name, items, HashEncoder(dtype=computed), StoreOptions(progress=False))
    for dtype in ("float32", "bfloat16", "float16"):
        encoder = HashEncoder(dtype=dtype)
        store = cached_store("corpus", {id: Passage(id, text) for id, text in items.items()}, encoder)
        assert (store.folder.name, encoder.seen) == (name, 0)
        check_store(store, encoder)
