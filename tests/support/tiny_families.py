"""Tiny random models with real tokenizers: a chat LLM, a BERT encoder, a PERank of both."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perank.model.batches import PromptBatch, RankBatch
from perank.model.pe_rank import PERank
from perank.model.projector import Projector
from perank.model.prompts import PromptBuilder

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
WORDS = ["Passage", "Rank", *"query passage : the cat sat on a mat dogs ran far rain falls [ ] ( ) .".split()]  # noqa: SIM905
_TEXTS = ["Rank the passages based on their relevance to the search query", "Passage 12: [4] the cat sat on a mat."]


@lru_cache
def chat_tokenizer(template: str = MISTRAL) -> Any:
    """A byte-level BPE of 400 tokens; every text has ids, and `][` or `](` are single tokens like in big ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    specials = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": specials, "initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=400, **options)
    core.train_from_iterator([*_TEXTS, *['[/INST][ [/INST]( [/INST]" ]['] * 50], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|im_end|>" if template == CHATML else "</s>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_llm(seed: int = 0, family: str = "Mistral", **options: Any) -> Any:
    """A causal LM of two layers, eval mode, with logits far from uniform."""
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(chat_tokenizer()), num_key_value_heads=2, initializer_range=0.3, **sizes, **options
    )
    torch.manual_seed(seed)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def tiny_perank(seed: int = 0, width: int = 16, **options: Any) -> PERank:
    """A PERank over vectors of `width`; options go to PERank."""
    llm = tiny_llm(seed)
    torch.manual_seed(seed + 1)
    projector = Projector(width, 32)
    for parameter in projector.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return PERank(llm, projector, **options).eval()


def prompts(version: str = "reference", **options: Any) -> PromptBuilder:
    """A builder for `chat_tokenizer`."""
    return PromptBuilder(chat_tokenizer(), version, **options)


def scores(model: PERank, builder: PromptBuilder, vectors_NE: Tensor) -> Tensor:
    """Step scores [N, N] of these passages in prompt order, for some query."""
    n = len(vectors_NE)
    batch = RankBatch(
        prompt=PromptBatch.of([builder.rank("the cat", n)]),
        vectors_BNE=vectors_NE[None],
        candidates_BN=torch.ones(1, n, dtype=torch.bool),
        order_BK=torch.arange(n)[None],
    )
    with torch.inference_mode():
        return model.step_scores(batch)[0]


def save_bert(folder: Path, width: int = 16, seed: int = 0, positions: int = 64) -> Path:
    """A random BERT with a WordPiece vocabulary of a few words, as Hugging Face saves it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=positions, initializer_range=0.5, **sizes)
    BertModel(config).save_pretrained(folder)
    return folder
