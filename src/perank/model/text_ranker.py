"""An LLM trained to write rankings of texts: `[4] > [2] > ...` after RankMistral's prompt (Table 10)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from perank.model.batches import AnswerBatch
from perank.model.losses import token_loss


class TextRanker(nn.Module):
    """Any Hugging Face causal LM, with or without adapters."""

    def __init__(self, llm: Any) -> None:
        super().__init__()
        self.llm = llm

    @property
    def decoder(self) -> Any:
        """The transformer without its vocabulary head."""
        return self.llm.get_decoder()

    def answer_loss(self, batch: AnswerBatch) -> Tensor:
        """Mean cross entropy over the batch's answer tokens; logits are not computed for prompt tokens.

        Rows are right-padded: with causal attention a token never sees what is to its right.
        """
        hidden_BLD = self.decoder(input_ids=batch.ids_BL, use_cache=False).last_hidden_state
        return token_loss(self.llm, hidden_BLD, batch.targets_BL)
