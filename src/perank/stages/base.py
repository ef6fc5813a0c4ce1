"""What both stages share: the model, its optimizer, and checkpoints that hold only what is trained."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import lightning
import torch

from perank.model.backbone import PERank
from perank.model.lora import load_trained_state, trained_state
from perank.model.precision import autocast_for
from perank.stages.optimizer import AdamW


class Stage(lightning.LightningModule):
    """A `PERank` under training. Subclasses say what is frozen and what a step computes."""

    def __init__(self, model: PERank, optimizer: AdamW) -> None:
        super().__init__()
        self.model, self.optimizer_settings = model, optimizer
        self.strict_loading = False  # a checkpoint holds the trained part; on_load_checkpoint checks its keys

    def autocast(self) -> AbstractContextManager[Any]:
        """The frozen part's type, where it is narrower than the trained part's; the trainer's precision is outside."""
        return autocast_for(self.model, self.device)

    def configure_optimizers(self) -> Any:
        return self.optimizer_settings.build(self, int(self.trainer.estimated_stepping_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trained = trained_state(self).keys()
        # Sharded strategies gather the state themselves; whatever they hand over, the frozen part stays out.
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        load_trained_state(self, checkpoint["state_dict"])

    def log_terms(self, terms: dict[str, torch.Tensor], rows: int) -> None:
        """Log losses by name, and how many rows all devices have trained on so far."""
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss", batch_size=rows)
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self.log("rows", float(batches * rows * self.trainer.world_size), batch_size=rows)
