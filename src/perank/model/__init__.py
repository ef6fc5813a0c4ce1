"""The PE-Rank model: encoder -> projector -> splice into the prompt -> LLM -> scores.

Other packages import from here whatever these modules define. `locate`, the other encoders and the ways to start a
model (`projector_init`, `even_start`), which build on all this, are imported from their own modules.
"""

from perank.model.align_prompt import align_example
from perank.model.anchors import Anchors, AnchorSettings, without_anchors
from perank.model.batches import (
    IGNORE,
    AlignBatch,
    AnswerBatch,
    Batch,
    Origin,
    PromptBatch,
    RankBatch,
    ReadBatch,
    padded,
)
from perank.model.encoders.encoder import Encoder
from perank.model.encoders.packed_linear import PackedLinear, pack_linears
from perank.model.listwise_prompts import ListwisePrompt, ListwisePrompts
from perank.model.llm import LLMSettings, recompute_frozen_layers
from perank.model.lora import (
    Lora,
    adapter_state,
    layer_state,
    load_layers,
    load_trained_state,
    merge_saved,
    trained_state,
)
from perank.model.losses import BLOCK, BatchPassages, RankLoss, listmle, log_probabilities, remaining
from perank.model.pe_rank import PERank, TextRanker
from perank.model.precision import autocast_for, buffers_in_fp32, dtype_name, dtype_of, known_device, restore_buffers
from perank.model.projector import Projector, ridge
from perank.model.projector_io import AUTHORS_PREFIX, load_projector, projector_of, save_projector
from perank.model.prompts import SLOT, Prompt, PromptBuilder, clean, unmarked
from perank.model.sharding import full_on_first, full_state, gathered, is_first, is_sharded, shard_like, shard_model
from perank.model.templates import ALIGN_INSTRUCTIONS, round_brackets, template

__all__ = [
    "ALIGN_INSTRUCTIONS", "AUTHORS_PREFIX", "BLOCK", "IGNORE", "SLOT", "AlignBatch", "AnchorSettings", "Anchors",
    "AnswerBatch", "Batch", "BatchPassages", "Encoder", "LLMSettings", "ListwisePrompt", "ListwisePrompts", "Lora",
    "Origin", "PERank", "PackedLinear", "Projector", "Prompt", "PromptBatch", "PromptBuilder", "RankBatch", "RankLoss",
    "ReadBatch", "TextRanker", "adapter_state", "align_example", "autocast_for", "buffers_in_fp32", "clean",
    "dtype_name", "dtype_of", "full_on_first", "full_state", "gathered", "is_first", "is_sharded", "known_device",
    "layer_state", "listmle", "load_layers", "load_projector", "load_trained_state", "log_probabilities",
    "merge_saved", "pack_linears", "padded", "projector_of", "recompute_frozen_layers", "remaining", "restore_buffers",
    "ridge", "round_brackets", "save_projector", "shard_like", "shard_model", "template", "trained_state", "unmarked",
    "without_anchors",
]  # fmt: skip
