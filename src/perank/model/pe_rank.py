"""The models. PERank: a Hugging Face causal LM and a projector. Step scores for training; embeddings for decoding.

Rows are right-padded, and with causal attention a token never sees what is to its right: training needs no
attention mask, and a row's scores don't depend on the other rows. The ranked passages' vectors directly follow each
row's prompt (teacher forcing), so h_i is at position length - 1 + i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from perank.model.anchors import Anchors, AnchorSettings
from perank.model.batches import AlignBatch, AnswerBatch, Origin, PromptBatch, RankBatch
from perank.model.losses import token_loss
from perank.model.projector import Projector


class PERank(nn.Module):
    """The LLM, the projector E_M, and how their product becomes a score: h_i . E_M(e_j) (Eq. 4), in fp32.

    `score_scale` multiplies every score, which equals scaling the weight of the LLM's final norm. It lets the
    projector's output have the scale of token embeddings while the initial softmax is neither flat nor saturated; 1 in
    the authors' code. `anchors` add what is known without the LLM (see `Anchors`); the paper has none.
    """

    score_scale: Tensor

    def __init__(
        self, llm: Any, projector: Projector, *, score_scale: float = 1.0, anchors: AnchorSettings | None = None
    ) -> None:
        super().__init__()
        self.llm, self.projector = llm, projector
        self.anchors = None if anchors is None else Anchors(anchors)
        self.register_buffer("score_scale", torch.tensor(score_scale))

    @property
    def decoder(self) -> Any:
        """The transformer without its vocabulary head; its last hidden states are after the final norm."""
        return self.llm.get_decoder()

    @property
    def needs_query(self) -> bool:
        """Whether scores depend on the query's vector."""
        return self.anchors is not None and "cosine" in self.anchors.weights

    @property
    def needs_origin(self) -> bool:
        """Whether scores depend on the first stage's ranking."""
        return self.anchors is not None and self.anchors.settings.needs_origin

    @property
    def one_state(self) -> bool:
        """Whether scores use h_1 at every step, so that a single pass gives Algorithm 1's ranking."""
        return self.anchors is not None and self.anchors.settings.first_state

    def project(self, vectors_BNE: Tensor) -> Tensor:
        """E_M(e): [.., E] -> [.., D], in the projector's dtype."""
        return self.projector(vectors_BNE.to(self.projector.dtype))

    def embed(self, prompt: PromptBatch, projected_BND: Tensor, query_BD: Tensor | None = None) -> Tensor:
        """Eq. 1: token embeddings with the vectors at their slots, [B, L, D]."""
        embedded_BLD = self.llm.get_input_embeddings()(prompt.ids_BL)
        embedded_BLD = splice(embedded_BLD, prompt.slots_BN, self.as_tokens(projected_BND))
        if query_BD is not None:
            embedded_BLD = splice(embedded_BLD, prompt.query_slot_B[:, None], self.as_tokens(query_BD[:, None]))
        return embedded_BLD

    def as_tokens(self, projected_BND: Tensor) -> Tensor:
        """Scale vectors like token embeddings: Gemma multiplies the rows of its embedding table by sqrt(D)."""
        scale = getattr(self.llm.get_input_embeddings(), "embed_scale", None)
        return projected_BND if scale is None else projected_BND * torch.as_tensor(scale).to(projected_BND)

    def read(self, prompt: PromptBatch, vectors_BNE: Tensor, query_BE: Tensor | None = None) -> Tensor:
        """h_1 [B, D]: the hidden state before the first rank."""
        query_BD = None if query_BE is None else self.project(query_BE)
        embedded_BLD = self.embed(prompt, self.project(vectors_BNE), query_BD)
        hidden_BLD = self.decoder(inputs_embeds=embedded_BLD, use_cache=False).last_hidden_state
        return hidden_BLD[torch.arange(len(hidden_BLD), device=hidden_BLD.device), prompt.length_B - 1]

    def step_scores(self, batch: RankBatch, *, with_content: bool = False) -> Tensor:
        """scores_BKN of the gold order: step i has seen ranks 1..i-1 (Eq. 4); optionally with texts in the prompt."""
        (hidden_BKD,), projected_BND = self.step_states(batch, [batch.content if with_content else batch.prompt])
        return self.score(hidden_BKD, projected_BND, batch.vectors_BNE, batch.query_BE, self.forced(batch))

    def forced(self, batch: RankBatch) -> Origin | None:
        """The origin of every step of the gold order (teacher forcing); None for models that don't use it."""
        origin, order_BK = batch.origin, batch.order_BK
        return self.anchors.forced(origin, batch.vectors_BNE, order_BK) if self.anchors is not None else None

    def step_states(self, batch: RankBatch, prompts: Sequence[PromptBatch | None]) -> tuple[list[Tensor], Tensor]:
        """Return h_1 .. h_K of the gold order [B, K, D] for each prompt, and E_M(e) [B, N, D].

        Raises `ValueError` for a prompt that the batch doesn't contain.
        """
        projected_BND = self.project(batch.vectors_BNE)
        query_BD = None if batch.query_BE is None else self.project(batch.query_BE)
        steps = batch.order_BK.shape[1]
        hidden = []
        for prompt in prompts:
            if prompt is None:
                raise ValueError("this batch carries no prompts with texts")
            embedded_BLD = self.embed(prompt, projected_BND, query_BD)
            fed_BKD = _rows_of(self.as_tokens(projected_BND), batch.order_BK[:, : steps - 1])
            sequence_BMD = _append(embedded_BLD, prompt.length_B, fed_BKD)
            hidden_BMD = self.decoder(inputs_embeds=sequence_BMD, use_cache=False).last_hidden_state
            at_BK = prompt.length_B[:, None] - 1 + torch.arange(steps, device=prompt.length_B.device)
            hidden_BKD = _rows_of(hidden_BMD, at_BK)
            hidden.append(hidden_BKD[:, :1].expand_as(hidden_BKD) if self.one_state else hidden_BKD)
        return hidden, projected_BND

    def score(
        self,
        hidden_BKD: Tensor,
        projected_BND: Tensor,
        vectors_BNE: Tensor,
        query_BE: Tensor | None = None,
        origin: Origin | None = None,
    ) -> Tensor:
        """score_scale * h . E_M(e) in fp32 (fp64 for fp64 models), [B, K, N], with the anchors if the model has them.

        Passages of shape [N, D] and [N, E] are shared by all rows.
        """
        wide = torch.promote_types(hidden_BKD.dtype, torch.float32)
        with torch.autocast(hidden_BKD.device.type, enabled=False):
            scores_BKN = self.score_scale.to(wide) * (hidden_BKD.to(wide) @ projected_BND.to(wide).mT)
            if self.anchors is not None:
                anchored_BKN = self.anchors.score(vectors_BNE.to(wide), query_BE, origin)
                scores_BKN = self.anchors.weights["llm"].to(wide) * scores_BKN + anchored_BKN
        return scores_BKN

    def token_logits(self, batch: AlignBatch) -> Tensor:
        """Logits [B, L, V] of the instruction and the text to reconstruct (Eq. 2)."""
        embedded_BLD = self.embed(batch.prompt, self.project(batch.vectors_BNE))
        return self.llm(inputs_embeds=embedded_BLD, use_cache=False).logits

    def reconstruction_loss(self, batch: AlignBatch) -> Tensor:
        """Eq. 3 as a mean over the batch's target tokens; logits are computed for these alone."""
        embedded_BLD = self.embed(batch.prompt, self.project(batch.vectors_BNE))
        hidden_BLD = self.decoder(inputs_embeds=embedded_BLD, use_cache=False).last_hidden_state
        return token_loss(self.llm, hidden_BLD, batch.targets_BL)


class TextRanker(nn.Module):
    """An LLM trained to write rankings of texts, `[4] > [2] > ...`, after RankMistral's prompt (Table 10)."""

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


def splice(embedded_BLD: Tensor, slots_BN: Tensor, vectors_BND: Tensor) -> Tensor:
    """Copy `embedded_BLD` with `vectors_BND[b, n]` at position `slots_BN[b, n]`; slots of -1 are skipped."""
    rows, columns = torch.nonzero(slots_BN >= 0, as_tuple=True)
    positions = slots_BN[rows, columns]
    return embedded_BLD.index_put((rows, positions), vectors_BND[rows, columns].to(embedded_BLD.dtype))


def _rows_of(values_BXD: Tensor, index_BK: Tensor) -> Tensor:
    """values[b, index[b, k]], [B, K, D]; a padded index (-1) reads row 0."""
    return values_BXD.gather(1, index_BK.clamp(min=0)[..., None].expand(-1, -1, values_BXD.shape[-1]))


def _append(embedded_BLD: Tensor, length_B: Tensor, more_BKD: Tensor) -> Tensor:
    """Put each row's `more` directly after its last token, overwriting padding: [B, L + K, D]."""
    batch, extra = more_BKD.shape[:2]
    room = embedded_BLD.new_zeros(batch, extra, embedded_BLD.shape[-1])
    positions_BK = length_B[:, None] + torch.arange(extra, device=length_B.device)
    return splice(torch.cat([embedded_BLD, room], dim=1), positions_BK, more_BKD)
