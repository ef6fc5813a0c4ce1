"""`Static`: speculative decoding that runs entirely on buffers of a few fixed shapes."""

from __future__ import annotations

import threading
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from perank.errors import BadInput
from perank.model import PERank, PromptBatch
from perank.ranking.decoder import Clock, Decoded, WindowBatch, best_first
from perank.ranking.kv_cache import check_llm
from perank.ranking.static.buckets import ROWS, bucket_for, smaller
from perank.ranking.static.engine import Engine
from perank.ranking.static.engines import Engines
from perank.ranking.static.state import Bucket

_COARSE = 16  # on a GPU, prompts are read from a multiple of so many tokens on: each start is captured on its own


class Static:
    """Orders equal `Constrained`'s up to rounding at small margins; one number is read from the device per forward.

    `nodes` as in `Speculative`; `lean`: whether layers run fused, None if possible (`lean.py`); `graphs`: whether CUDA
    replays captured graphs. Buffers are reused for later windows of the same model, by one thread at a time. Raises
    what `Constrained` raises, and `BadInput` if `lean` layers are impossible.
    """

    def __init__(self, nodes: int | None = None, lean: bool | None = None, *, graphs: bool = True) -> None:
        if nodes is not None and nodes < 1:
            raise BadInput(f"drafts of {nodes} tokens", remedy="give 1 or more, or null")
        self.nodes, self.lean, self.graphs = nodes, lean, graphs
        self.engines: Engines | None = None
        self.busy = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:  # a copy makes buffers of its own
        return {"nodes": self.nodes, "lean": self.lean, "graphs": self.graphs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @torch.no_grad()
    def decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        """See `Decoder.decode`. Raises `ValueError` if the model needs the windows' origin, and it is missing."""
        if model.needs_origin and windows.origin is None:
            raise ValueError("the anchors need the first stage's ranking")
        with self.busy:
            return self._decode(model, windows)

    def _decode(self, model: PERank, windows: WindowBatch) -> Decoded:
        if steps := max(windows.steps, default=0):
            check_llm(model.llm, int(windows.prompts.length_B.max()) + steps - 1)
            if self.engines is None or not self.engines.serve(model):
                self.engines = Engines(model, self.lean, graphs=self.graphs)
        starts = range(0, len(windows.steps), ROWS)
        groups = [self._group(_rows(windows, slice(start, start + ROWS))) for start in starts]
        return Decoded(
            orders=[order for group in groups for order in group.orders],
            forwards=[forwards for group in groups for forwards in group.forwards],
            tokens_processed=[tokens for group in groups for tokens in group.tokens_processed],
            tokens_generated=windows.depths,
            margins=[margins for group in groups for margins in group.margins],
            seconds_prefill=sum(group.seconds_prefill for group in groups),
            seconds_decode=sum(group.seconds_decode for group in groups),
            first_scores=[scores for group in groups for scores in group.first_scores],
        )

    def _group(self, windows: WindowBatch) -> Decoded:
        """Rank at most ROWS windows."""
        clock, prefilled, steps = Clock(windows.vectors_BNE.device), 0.0, windows.steps
        if self.engines is None or not any(steps):
            orders = [tuple(row.nonzero()[:, 0].tolist()) for row in windows.candidates_BN]
            nothing = [0] * len(steps)
            empty: list[tuple[float, ...]] = [()] * len(steps)
            return Decoded(orders, nothing, nothing, windows.depths, empty, prefilled, clock.lap(), empty)
        engine = self.engines.of(self._bucket(windows))
        starts = self._prefill(engine, windows)
        prefilled = clock.lap()
        first_BN = engine.state.scores_BN.clone()
        self._finish(engine, self.engines)
        state = engine.state
        rest_BN, _ = best_first(state.scores_BN, state.open_BN)
        read = zip(state.processed_B.tolist(), starts, strict=False)
        rows = zip(state.order_BX.tolist(), state.ranked_B.tolist(), rest_BN.tolist(), windows.counts, strict=False)
        return Decoded(
            orders=[(*order[:ranked], *rest[: n - ranked]) for order, ranked, rest, n in rows],
            forwards=state.forwards_B.tolist()[: len(steps)],
            tokens_processed=[max(0, tokens - start) for tokens, start in read],
            tokens_generated=windows.depths,
            margins=[tuple(row[:k]) for row, k in zip(state.margin_BX.tolist(), steps, strict=False)],
            seconds_prefill=prefilled,
            seconds_decode=clock.lap(),
            first_scores=[tuple(row[:n]) for row, n in zip(first_BN.tolist(), windows.counts, strict=False)],
        )

    def _prefill(self, engine: Engine, windows: WindowBatch) -> list[int]:
        """Read the prompts; return the first token that each row reads."""
        kv_JBM2HW, coarse = engine.layers.kv, 1 if windows.vectors_BNE.device.type == "cpu" else _COARSE
        starts = [start // coarse * coarse for start in windows.starts]
        engine.state.fill(windows)
        for row, kv_JP2HW in enumerate(windows.prefixes.known):
            if kv_JP2HW is not None:
                kv_JBM2HW[:, row, : starts[row]] = kv_JP2HW[:, : starts[row]]
        engine.prefill(starts)
        windows.prefixes.keep(lambda row, tokens: kv_JBM2HW[:, row, :tokens].clone())
        return starts

    def _finish(self, engine: Engine, engines: Engines) -> None:
        """Step until all ranks are decided, moving to a smaller bucket when half of the rows have finished.

        Raises `BadInput` if a score overflowed.
        """
        moves: list[tuple[Engine, Tensor, Engine]] = []
        while left := int(engine.left):  # the one device read per forward
            bucket = smaller(engine.bucket, left, engine.left.device, self.nodes)
            if bucket.rows * 2 <= engine.bucket.rows:
                rows, larger, engine = engine.state.running.nonzero()[:, 0], engine, engines.of(bucket)
                engine.take(larger, rows)
                moves.append((larger, rows, engine))
            engine.step()
        finite = bool(engine.finite)
        for larger, rows, moved in reversed(moves):
            larger.state.copy_rows(rows, moved.state, torch.arange(len(rows), device=rows.device))
        if not finite:
            self.engines = None  # non-finite masked entries would corrupt later windows
            remedy = "run it in float32 or bfloat16, or check its weights"
            raise BadInput("the model's scores are not finite", remedy=remedy)

    def _bucket(self, windows: WindowBatch) -> Bucket:
        rows, passages = windows.candidates_BN.shape
        longest, device = int(windows.prompts.length_B.max()), windows.vectors_BNE.device
        query = windows.query_BE is not None
        return bucket_for(device, rows, longest, passages, max(windows.steps), query=query, nodes=self.nodes)


def _rows(windows: WindowBatch, rows: slice) -> WindowBatch:
    """Select these windows."""
    prompts = PromptBatch(*(getattr(windows.prompts, field.name)[rows] for field in fields(windows.prompts)))
    query_BE = None if windows.query_BE is None else windows.query_BE[rows]
    origin = None if windows.origin is None else windows.origin.rows(rows)
    shown = (windows.vectors_BNE[rows], windows.candidates_BN[rows])
    return WindowBatch(prompts, *shown, windows.depths[rows], query_BE, origin, windows.prefixes.rows(rows))
