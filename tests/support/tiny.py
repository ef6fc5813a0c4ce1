"""Tiny random parts: an LLM, an encoder and tokenizers made on the spot, and a collection of five passages."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from perank.model.anchors import AnchorSettings
from perank.model.batches import Origin, PromptBatch, RankBatch
from perank.model.encoders.encoder import Encoder
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.model.prompts import PromptBuilder
from perank.ranking.decoder import Decoder, Depth, WindowBatch
from perank.ranking.shared_prefix import Prefixes, SharedPrefix
from perank.records import Candidates, Passage, Query

WORDS = [
    *[
        "which",
        "sea",
        "otter",
        "holds",
        "hands",
        "while",
        "sleeping",
        "a",
        "the",
        "rain",
        "falls",
        "on",
        "plains",
        "bread",
        "needs",
        "flour",
        "water",
        "salt",
    ],
    *[
        "and",
        "yeast",
        "planets",
        "move",
        "in",
        "ellipses",
        "around",
        "sun",
        "cats",
        "sleep",
        "most",
        "of",
        "day",
        "query",
        "ranking",
        "passages",
    ],
    *["passage", "search", "rank", "based", "their", "relevance", "to", ":", ".", ","],
]
ANCHORS = AnchorSettings(cosine=40.0, rank=8.0, feedback=30.0)  # about as large as the tiny models' scores
CHAT = "{{ bos_token }}[INST] {{ messages[0]['content'] }} [/INST]"

PASSAGES = (
    Passage("otter", "a sea otter holds hands while sleeping"),
    Passage("rain", "the rain falls on the plains"),
    Passage("bread", "bread needs flour water salt and yeast", title="bread"),
    Passage("planets", "planets move in ellipses around the sun"),
    Passage("cats", "cats sleep most of the day"),
)
QUERY = Query("q1", "which otter holds hands")
FIVE = Candidates(QUERY, PASSAGES)


def tiny_tokenizer(*, bert: bool = False) -> Any:
    """A fast word-level tokenizer with a chat template, or one with [CLS] and [SEP]."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<pad>"]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, "[INST]", "[/INST]", *WORDS]))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bert:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = CHAT
    return tokenizer


@lru_cache(maxsize=4)
def _tokenizer() -> Any:
    return tiny_tokenizer()


def tiny_prompts(version: str = "compact", **options: Any) -> PromptBuilder:
    """A prompt builder over the tiny tokenizer."""
    return PromptBuilder(_tokenizer(), version, **options)


def tiny_llm(
    seed: int = 0, *, heads: int = 4, kv_heads: int = 2, layers: int = 2, width: int = 32, **options: Any
) -> Any:
    """A random Llama in eval mode, with weights large enough that its scores depend on what was ranked before."""
    from transformers import LlamaConfig, LlamaForCausalLM

    options.setdefault("initializer_range", 0.3)
    config = LlamaConfig(
        vocab_size=len(_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def tiny_model(seed: int = 0, *, encoder_width: int = 8, dtype: torch.dtype = torch.float64, **options: Any) -> PERank:
    """A random PE-Rank model whose scores neither tie nor saturate."""
    anchors = options.pop("anchors", None)
    llm = tiny_llm(seed, **options)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        projector = Projector(encoder_width, llm.config.hidden_size)
        for parameter in projector.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return PERank(llm, projector, anchors=anchors).to(dtype).requires_grad_(False)


def llm_of(family: str, vocabulary: int, *, seed: int = 0, **options: Any) -> Any:
    """A random LLM of that family of transformers, in eval mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    defaults = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    config = AutoConfig.for_model(family, vocab_size=vocabulary, **defaults | options)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config).eval()


def model_of(family: str, **options: Any) -> PERank:
    """An fp64 PERank whose LLM is of that family."""
    llm = llm_of(family, len(tiny_tokenizer()), initializer_range=0.3, **options)
    return PERank(llm, tiny_model().projector).double()


def tiny_encoder(folder: Any, *, seed: int = 0, width: int = 8, positions: int = 64) -> Encoder:
    """A random BERT saved into `folder`, as an `Encoder`."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(_tokenizer()),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=positions,
        pad_token_id=3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    tiny_tokenizer(bert=True).save_pretrained(folder)
    return Encoder(str(folder), max_length=32)


def unit_vectors(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random unit vectors [..., E]."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(noise, dim=-1).to(dtype)


def windows(
    sizes: list[int],
    *,
    seed: int = 0,
    width: int = 8,
    dtype: torch.dtype = torch.float64,
    queries: list[str] | None = None,
    depth: Depth = None,
) -> WindowBatch:
    """Windows of these sizes; a window's prompt and vectors do not depend on the others."""
    prompts = tiny_prompts()
    texts = queries or [" ".join(WORDS[: 1 + (seed + n) % 7]) for n in sizes]
    vectors_BNE = torch.zeros(len(sizes), max(sizes), width, dtype=dtype)
    for b, n in enumerate(sizes):
        vectors_BNE[b, :n] = unit_vectors(n, width, seed=1000 * seed + n, dtype=dtype)
    batch = PromptBatch.of([prompts.rank(text, n) for text, n in zip(texts, sizes, strict=True)])
    return WindowBatch(batch, vectors_BNE, torch.arange(max(sizes)) < torch.tensor(sizes)[:, None], depth)


def placed(windows: WindowBatch, *, seed: int = 0) -> WindowBatch:
    """The windows with queries' vectors, and as parts of longer first-stage lists in shuffled order."""
    (batch, n, width), dtype = windows.vectors_BNE.shape, windows.vectors_BNE.dtype
    noise = torch.Generator().manual_seed(seed)
    ranks_BN = torch.stack([torch.randperm(3 * n, generator=noise)[:n] for _ in range(batch)])
    vectors_BXE = unit_vectors(batch, 6, width, seed=seed + 77, dtype=dtype)
    origin = Origin(ranks_BN, vectors_BXE[:, 1:].sum(1, keepdim=True))
    return replace(windows, query_BE=vectors_BXE[:, 0], origin=origin)


def continued(decoder: Decoder, model: PERank, windows: WindowBatch) -> WindowBatch:
    """The windows with the keys and values of their prompts' first token, which `decoder` reads."""
    prefixes = [SharedPrefix((int(id),)) for id in windows.prompts.ids_BL[:, 0]]
    decoder.decode(model, replace(windows, prefixes=Prefixes(prefixes, [None] * len(prefixes))))
    return replace(windows, prefixes=Prefixes(prefixes, [prefix.kv_JP2HW for prefix in prefixes]))


def rows(windows: WindowBatch, order_BK: torch.Tensor, *, content: PromptBatch | None = None) -> RankBatch:
    """The windows as training rows with these gold orders."""
    placed = {"query_BE": windows.query_BE, "origin": windows.origin}
    return RankBatch(windows.prompts, windows.vectors_BNE, windows.candidates_BN, order_BK, content=content, **placed)
