"""The processes of a command on several devices or machines, which Lightning Fabric starts, and their share of cores.

Two threads next to one busy process on two cores are 10 to 50 times slower than one: they wait for each other at every
product, and one of them always waits for a core.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from perank.app.jobs import quiet_lightning
from perank.errors import BadInput

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def launched(accelerator: str, devices: int | str, nodes: int, place: str) -> Fabric:
    """Start the processes, one per device, and return this one's Fabric; on CPUs they share the idle cores.

    On several machines, start the same command on each. Raises `BadInput`, naming the setting `place`, for devices that
    don't exist.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    quiet_lightning()
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes)
    except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
        raise BadInput(" ".join(str(error).split()), remedy="see conf/trainer", id=place) from error
    fabric.launch()
    on_this_machine = int(getattr(fabric.strategy, "num_processes", fabric.world_size))
    share_cores(on_this_machine, on_cpu=fabric.device.type == "cpu")
    return fabric


def share_cores(processes: int = 1, *, on_cpu: bool = True) -> None:
    """Limit this process's threads to its share of the cores: those of torch, and those of tokenizers.

    `OMP_NUM_THREADS` and `RAYON_NUM_THREADS` win if they are set; tokenizers follow the former without the latter. With
    the model on a GPU, tokenizers otherwise use all cores. `processes` is how many of this run compute on this machine.
    """
    import torch

    if on_cpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), idle_cores(processes)))
    if on_cpu or "OMP_NUM_THREADS" in os.environ:
        os.environ.setdefault("RAYON_NUM_THREADS", os.environ.get("OMP_NUM_THREADS") or str(torch.get_num_threads()))


def idle_cores(processes: int = 1) -> int:
    """Return each process's share of the cores that were idle in the last minute, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1, (cores - busy) // processes)
