"""Engines of one model, made when their bucket is first needed, and dropped when the model's weights change."""

from __future__ import annotations

from collections import OrderedDict

from perank.model.pe_rank import PERank
from perank.ranking.static.engine import Engine
from perank.ranking.static.layers import HuggingFaceLayers
from perank.ranking.static.state import Bucket

_KEPT = 8  # buckets whose buffers wait for windows to come


class Engines:
    """The engines of `model`; those that were used last are kept."""

    def __init__(self, model: PERank) -> None:
        self.model = model
        self.made: OrderedDict[Bucket, Engine] = OrderedDict()

    def serve(self, model: PERank) -> bool:
        """Whether this is the model."""
        return model is self.model

    def of(self, bucket: Bucket) -> Engine:
        """The engine of that bucket."""
        if bucket not in self.made:
            self.made[bucket] = Engine(self.model, HuggingFaceLayers(self.model, bucket), bucket)
        self.made.move_to_end(bucket)
        while len(self.made) > _KEPT:
            self.made.popitem(last=False)
        return self.made[bucket]
