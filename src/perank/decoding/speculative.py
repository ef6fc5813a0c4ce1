"""Algorithm 1's ranking in fewer forwards: draft the rest of the ranking, check the whole draft in one forward.

A draft costs tokens, not forwards. Behind each drafted rank the LLM's scores say which candidate greedy decoding
takes next; the longest agreeing prefix is kept, the first disagreement is corrected by the same scores, the rest is
drafted anew. Rows of a batch advance by different amounts: `Memory` overwrites what was rejected.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perank.decoding.decoded import Clock, Decoded, Depth, best_first, depths
from perank.decoding.drafts import Draft, agreement, at_step, redraft
from perank.decoding.reader import Reader
from perank.errors import BadInput
from perank.model.backbone import PERank
from perank.model.batches import PromptBatch


class Speculative:
    """Greedy decoding by draft and check; the orders of `Constrained`, but for rounding where margins are small.

    `prior` is drafted inside the prefill: `prompt` (the order the candidates came in), `similarity` (the encoder's,
    where the query's vector is given) or `none`. `longest` bounds a draft (None: all that is left).
    """

    def __init__(self, *, prior: str = "none", longest: int | None = None) -> None:
        if prior not in ("none", "prompt", "similarity"):
            raise BadInput(f"unknown prior {prior!r}", remedy="choose none, prompt or similarity")
        if longest is not None and longest < 1:
            raise BadInput(f"drafts of {longest} ranks", remedy="give 1 or more, or null for all that is left")
        self.prior, self.longest = prior, longest

    @torch.no_grad()
    def decode(
        self,
        model: PERank,
        prompts: PromptBatch,
        vectors_BNE: Tensor,
        candidates_BN: Tensor,
        *,
        depth: Depth = None,
        query_BE: Tensor | None = None,
    ) -> Decoded:
        """See `Decoder.decode`. Raises what `Constrained.decode` raises."""
        counts, wanted = depths(candidates_BN, depth)
        steps = [min(k, max(n - 1, 0)) for k, n in zip(wanted, counts, strict=True)]
        rows = _Rows(candidates_BN, steps)
        clock, prefilled = Clock(vectors_BNE.device), 0.0
        if any(steps):
            reader = Reader(model, prompts, vectors_BNE, query_BE, ranks=max(steps) - 1)
            draft = self._prior(rows, vectors_BNE, query_BE)
            scores_BKN = reader.read(draft.fed if draft.length else None)
            rows.count(draft, prompts.length_B.tolist())
            prefilled = clock.lap()
            while True:
                accepted_B = rows.take(scores_BKN, draft)
                if not (kept := rows.drop_finished()):
                    break
                index = torch.tensor(kept, device=scores_BKN.device)
                reader.keep(index)
                scores_BKN, accepted_B, draft = scores_BKN[index], accepted_B[index], draft.only(index)
                draft_next = redraft(scores_BKN, draft, accepted_B, rows.open_BN, self._ahead(rows.left))
                fed_BKN = reader.feed(draft_next.fed, rows.ranks(draft_next), reach=max(steps) - 1)
                scores_BKN, draft = torch.cat([at_step(scores_BKN, accepted_B)[:, None], fed_BKN], 1), draft_next
                rows.count(draft)
            reader.check()
        return Decoded(
            orders=[tuple(order[:n]) for order, n in zip(rows.orders, counts, strict=True)],
            forwards=rows.forwards,
            tokens_processed=rows.processed,
            tokens_generated=wanted,
            margins=[tuple(row[:s]) for row, s in zip(rows.margins, steps, strict=True)],
            seconds_prefill=prefilled,
            seconds_decode=clock.lap(),
        )

    def _prior(self, rows: _Rows, vectors_BNE: Tensor, query_BE: Tensor | None) -> Draft:
        order_BN, ahead = rows.order_BN, [0] * len(rows.left)
        if self.prior == "similarity" and query_BE is not None:
            order_BN, _ = best_first((vectors_BNE @ query_BE[..., None])[..., 0], rows.open_BN)
        if self.prior == "prompt" or (self.prior == "similarity" and query_BE is not None):
            ahead = self._ahead([max(left - 1, 0) for left in rows.left])
        return Draft(order_BN, torch.tensor(ahead, device=order_BN.device), max(ahead))

    def _ahead(self, left: list[int]) -> list[int]:
        return [min(n, self.longest or n) for n in left]


class _Rows:
    """How far each row is. Rows that have finished leave; `orders` and `margins` keep what they found."""

    def __init__(self, candidates_BN: Tensor, steps: list[int]) -> None:
        batch, device = len(steps), candidates_BN.device
        self.open_BN = candidates_BN.clone()
        self.order_BN, _ = best_first(torch.zeros(candidates_BN.shape, device=device), candidates_BN)
        self.margin_BN = torch.full(candidates_BN.shape, torch.inf, device=device)
        self.done_B, self.steps_B = torch.zeros(batch, dtype=torch.long, device=device), torch.tensor(steps).to(device)
        self.left, self.index = list(steps), list(range(batch))
        self.orders: list[list[int]] = self.order_BN.tolist()
        self.margins: list[list[float]] = self.margin_BN.tolist()
        self.forwards, self.processed = [0] * batch, [0] * batch

    def take(self, scores_BKN: Tensor, draft: Draft) -> Tensor:
        """accepted_B: fix the ranks that agree, and order the rest by the scores behind them."""
        accepted_B, margin_BK = agreement(scores_BKN, draft, self.open_BN)
        self.open_BN &= draft.places(self.open_BN.shape[1]) >= accepted_B[:, None]
        rest_BN, _ = best_first(at_step(scores_BKN, accepted_B), self.open_BN)
        new_BN = torch.arange(self.open_BN.shape[1], device=accepted_B.device) - self.done_B[:, None]
        taken_BN, behind_BN = new_BN < accepted_B[:, None], (new_BN - accepted_B[:, None]).clamp(min=0)
        new_order_BN = torch.where(
            taken_BN,
            draft.order_BK.gather(1, new_BN.clamp(0, draft.order_BK.shape[1] - 1)),
            rest_BN.gather(1, behind_BN),
        )
        self.order_BN = torch.where(new_BN < 0, self.order_BN, new_order_BN)
        decided_BN = (new_BN >= 0) & (new_BN <= accepted_B[:, None])
        step_BN = new_BN.clamp(0, margin_BK.shape[1] - 1)
        self.margin_BN = torch.where(decided_BN, margin_BK.gather(1, step_BN).to(self.margin_BN.dtype), self.margin_BN)
        self.done_B = self.done_B + accepted_B
        return accepted_B

    def drop_finished(self) -> list[int]:
        """Which of the running rows go on. A row is finished when the scores at hand give its last rank."""
        self.left = [max(n, 0) for n in (self.steps_B - self.done_B - 1).tolist()]
        kept = [i for i, n in enumerate(self.left) if n]
        if len(kept) < len(self.left):
            orders, margins = self.order_BN.tolist(), self.margin_BN.tolist()
            for i, row in enumerate(self.index):
                if self.forwards[row]:  # of those that asked for nothing the order stays
                    self.orders[row], self.margins[row] = orders[i], margins[i]
            self.open_BN, self.order_BN, self.margin_BN = self.open_BN[kept], self.order_BN[kept], self.margin_BN[kept]
            self.done_B, self.steps_B = self.done_B[kept], self.steps_B[kept]
            self.left, self.index = [self.left[i] for i in kept], [self.index[i] for i in kept]
        return kept

    def ranks(self, draft: Draft) -> Tensor:
        """rank_BK that the draft's fed candidates take; -1 for padding."""
        step_K = torch.arange(draft.length, device=self.done_B.device)
        return torch.where(step_K < draft.ahead_B[:, None], self.done_B[:, None] + step_K, -1)

    def count(self, draft: Draft, prompts: list[int] | None = None) -> None:
        """One forward for every running row, over its draft and, the first time, its prompt."""
        for i, (row, ahead) in enumerate(zip(self.index, draft.ahead_B.tolist(), strict=True)):
            if self.left[i]:
                self.forwards[row] += 1
                self.processed[row] += ahead + (prompts[i] if prompts else 0)
