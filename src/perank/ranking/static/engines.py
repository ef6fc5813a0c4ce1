"""Engines of one model, created when their bucket is first needed and dropped when the model's weights change."""

from __future__ import annotations

from collections import OrderedDict

import torch

from perank.errors import BadInput
from perank.model import PERank
from perank.ranking.static.engine import Engine
from perank.ranking.static.graphs import ReplayedEngine
from perank.ranking.static.layers import HuggingFaceLayers, Layers
from perank.ranking.static.lean import LeanLayers, lean_weights
from perank.ranking.static.state import Bucket

_CPU_BYTES, _GPU_BYTES = 2**28, 2**33  # limit of the KV caches kept for later windows


class Engines:
    """The engines of `model`; the most recently used ones are kept.

    `lean`: whether its layers run fused (None: if possible). `graphs`: whether CUDA replays captured graphs. Raises
    `BadInput` if fused layers are required but impossible.
    """

    def __init__(self, model: PERank, lean: bool | None = None, *, graphs: bool = True) -> None:
        self.graphs = graphs
        self.model, self.lean = model, None if lean is False else lean_weights(model)
        if lean and self.lean is None:
            problem = f"the layers of {type(model.decoder).__name__} can't be fused as they are"
            raise BadInput(problem, remedy="leave `lean` open; known are frozen Llama, Mistral, Qwen2 and Qwen3")
        self.made: OrderedDict[Bucket, Engine] = OrderedDict()
        self.weights = _weights(model)

    def serve(self, model: PERank) -> bool:
        """Whether this is the same model with unchanged weights."""
        return model is self.model and _weights(model) == self.weights

    def of(self, bucket: Bucket) -> Engine:
        """Return the engine of that bucket."""
        if bucket not in self.made:
            with torch.inference_mode(False):  # inference tensors can't be written outside inference mode
                self.made[bucket] = self._make(bucket)
        self.made.move_to_end(bucket)
        made = self.made[bucket]
        most = _CPU_BYTES if made.layers.kv.device.type == "cpu" else _GPU_BYTES
        while len(self.made) > 1 and sum(engine.layers.kv.nbytes for engine in self.made.values()) > most:
            self.made.popitem(last=False)
        return made

    def _make(self, bucket: Bucket) -> Engine:
        layers: Layers = (
            HuggingFaceLayers(self.model, bucket) if self.lean is None else LeanLayers(self.model, self.lean, bucket)
        )
        kind = ReplayedEngine if self.graphs and layers.kv.device.type == "cuda" else Engine
        return kind(self.model, layers, bucket)


def _weights(model: PERank) -> list[tuple[int, int]]:
    """Address and version of each weight: fused copies and CUDA graphs depend on both."""
    return [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in model.parameters()]
