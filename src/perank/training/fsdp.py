"""`trainer=fsdp`: shard weights, gradients and optimizer states, with checkpoints that every trainer reads.

Lightning's older FSDP strategy rejects CPUs, and its newer one numbers optimizer states by all parameters, including
frozen ones. Here a checkpoint is one file with full tensors, optimizer states in the optimizer's own order, as an
unsharded run writes it, so a run can resume under another trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.optim import Optimizer

from perank.model import dtype_of, full_on_first, is_first, shard_like, shard_model, trained_state
from perank.training.checkpoints import read_checkpoint


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all devices of all nodes. `dtype`: the type layers are gathered and computed in (None: unchanged)."""

    def __init__(self, *, dtype: str | None = None) -> None:
        super().__init__(save_distributed_checkpoint=False)
        self.dtype = None if dtype is None else dtype_of(dtype)

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def shard(self, model: nn.Module) -> None:
        """Shard the model; the stage calls this before the optimizer is created."""
        shard_model(model, self.device_mesh["data_parallel"], self.dtype)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the trained weights as full tensors on the first device, which writes them; {} on the others.

        Tensors are gathered one by one: only the first device's host holds more than one of them.
        """
        assert self.lightning_module is not None
        state = {name: full_on_first(value) for name, value in trained_state(self.lightning_module).items()}
        return state if is_first() else {}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        found = getattr(optimizer, "_optimizer", optimizer).state_dict()  # Lightning wraps it
        states = {i: {key: full_on_first(value) for key, value in state.items()} for i, state in found["state"].items()}
        return {**found, "state": states} if is_first() else {}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Map the file instead of reading it: devices copy their shares out of pages that a host holds once."""
        return read_checkpoint(checkpoint_path, mmap=True, checksums=True)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, found in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            states = dict(found["state"])
            for group, saved in zip(optimizer.param_groups, found["param_groups"], strict=True):
                for parameter, number in zip(group["params"], saved["params"], strict=True):
                    states[number] = {
                        key: shard_like(value, parameter) for key, value in states.get(number, {}).items()
                    }
            optimizer.load_state_dict({**found, "state": states})
