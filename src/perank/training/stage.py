"""Base class of the training stages: the model, its optimizer and its checkpoints.

A checkpoint holds only the trained weights, and every device's random states, so that a resumed run draws the same
dropout masks as an uninterrupted one. `processor_seconds` counts those of the first device's process, of all attempts,
each from `began` on.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from perank.errors import BadInput
from perank.model import autocast_for, buffers_in_fp32, is_sharded, load_trained_state, restore_buffers, trained_state
from perank.training.checkpoints import random_state, restore_random_state
from perank.training.fsdp import ShardedStrategy
from perank.training.optimizer import AdamW

log = logging.getLogger(__name__)


class Stage(lightning.LightningModule):
    """A model in training. Subclasses define what is frozen and the training step."""

    def __init__(self, model: nn.Module, optimizer: AdamW) -> None:
        super().__init__()
        self.model, self.optimizer_settings = model, optimizer
        self.strict_loading = False  # a checkpoint holds only trained weights; on_load_checkpoint checks its keys
        self._random_states: list[dict[str, Any]] = []
        self.began, self._seconds_before = 0.0, 0.0  # processor seconds at the run's start, and of earlier attempts
        self._buffers_in_fp32 = buffers_in_fp32(model)

    def set_modes(self) -> None:
        """Put only what is trained into train mode."""
        raise NotImplementedError

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast to the frozen part's type if it is narrower than the trained part's; nests in the trainer's own."""
        return autocast_for(self.model, self.device)

    def configure_model(self) -> None:
        if isinstance(self.trainer.strategy, ShardedStrategy) and not is_sharded(self.model):
            self.trainer.strategy.shard(self.model)

    def configure_optimizers(self) -> Any:
        return self.optimizer_settings.build(self, int(self.trainer.estimated_stepping_batches))

    def on_train_start(self) -> None:
        self.set_modes()
        restore_buffers(self.model, self._buffers_in_fp32)
        if len(self._random_states) not in (0, self.trainer.world_size):
            log.warning("resumed on another number of devices: dropout draws other numbers than it would have")
            self._random_states = []
        if self._random_states:
            restore_random_state(self._random_states[self.global_rank], self.device)
            self._random_states = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = trained_state(self).keys()
        # Sharded strategies gather the state themselves, possibly with the frozen part.
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        checkpoint["random_states"] = _of_all_devices(random_state(self.device))
        checkpoint["processor_seconds"] = self._seconds_before + time.process_time() - self.began

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._random_states = checkpoint.get("random_states", [])
        self._seconds_before = checkpoint.get("processor_seconds", 0.0)
        if "state_dict" not in checkpoint:
            return  # DeepSpeed reads its shards itself
        load_trained_state(self, checkpoint["state_dict"])
        trainer: Any = self.trainer
        if type(trainer.datamodule).__qualname__ not in checkpoint:
            problem = "the checkpoint doesn't record which rows it was trained on"
            raise BadInput(problem, remedy="name a checkpoint of perank.train", id="ckpt_path")

    def token_share(self, tokens: Tensor) -> Tensor | float:
        """This device's target tokens over the devices' mean: gradients average over devices, losses over tokens."""
        if self.trainer.world_size == 1:
            return 1.0
        everywhere = self.all_gather(tokens.float())
        assert isinstance(everywhere, Tensor)
        return tokens / everywhere.mean()

    def log_terms(self, terms: dict[str, torch.Tensor], rows: int) -> None:
        """Log losses by name, averaged over devices, and the number of rows trained on so far by all devices.

        Raises `BadInput` on all devices if the loss isn't finite on one of them, before it reaches the weights and the
        next checkpoint: a device that stopped alone would leave the others waiting for it.
        """
        own = bool(terms["loss"].isfinite())
        if not self.trainer.strategy.reduce_boolean_decision(own):
            problem = "another device's loss isn't finite" if own else f"the loss is {terms['loss'].item()}"
            remedy = "lower optimizer.lr and resume from the last checkpoint"
            raise BadInput(f"{problem} after {self.global_step} steps", remedy=remedy)
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss", batch_size=rows, sync_dist=True)
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self.log("rows", float(batches * rows * self.trainer.world_size), batch_size=rows, sync_dist=True)


def _of_all_devices(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Gather every device's state, by global rank, on all devices."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states
