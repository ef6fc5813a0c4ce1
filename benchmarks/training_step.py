"""A step of stage 2 with vectors from the store, against one that encodes its passages first, as the authors train.

The same rows, losses and updates; the encoding one tokenises and encodes the batch's passages before it. In one run.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --rounds 5
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from interleaved import seconds_by_turns, speedup

from perank.app.assembly import Assembly
from perank.errors import exits_cleanly
from perank.files import CONF_DIR

STORED, ENCODING = "vectors from the store", "encoding in the step"


class Steps:
    """One batch of the embedded recipe, and what a step does with it."""

    def __init__(self, rows: int) -> None:
        settings = ["+experiment=rank", "collection.limit=1000", f"data.rows={rows}", f"data.batch_size={rows}"]
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            self.parts = Assembly(compose("train", overrides=[*settings, "projector.init=isometry", "evaluate=false"]))
        data, self.model, self.loss = self.parts.data, self.parts.model.train(), self.parts.make("loss")
        examples = [data.example(position) for position in range(rows)]
        self.batch = data.collate(examples)
        self.texts = self._texts(examples)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6)

    def stored(self) -> None:
        """Forward, backward, update; the vectors are there."""
        self._step(self.batch)

    def encoding(self) -> None:
        """The same behind the encoder."""
        vectors_XE = self.parts.encoder.encode_passages(self.texts).clone()  # out of inference mode
        self._step(replace(self.batch, vectors_BNE=vectors_XE.view_as(self.batch.vectors_BNE)))

    def _step(self, batch: Any) -> None:
        scores_BKN = self.model.step_scores(batch)
        self.loss(scores_BKN, None, batch.order_BK, batch.candidates_BN)["loss"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _texts(self, examples: list[Any]) -> list[str]:
        """Texts of as many passages as the batch has vectors: what is in them decides only how long they are."""
        passages = list(self.parts.collection.passages.values())
        needed = len(examples) * self.batch.vectors_BNE.shape[1]
        return [passages[i % len(passages)].contents for i in range(needed)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16, help="rows a step, of 20 passages each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2 rows, 1 round: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.rounds = 2, 1
    steps = Steps(options.rows)
    seconds = seconds_by_turns({ENCODING: steps.encoding, STORED: steps.stored}, options.rounds)
    print(f"{options.rows} rows a step, {options.rounds} rounds, {torch.get_num_threads()} threads")
    for name, taken in seconds.items():
        print(f"  {name:24} {statistics.median(taken):7.3f} s   x{speedup(seconds[ENCODING], taken)}")


if __name__ == "__main__":
    exits_cleanly(main)()
