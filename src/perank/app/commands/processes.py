"""The processes of a command that computes on several devices or machines; Lightning Fabric starts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perank.app.jobs import quiet_lightning
from perank.errors import BadInput
from perank.model.encoders.threads import share_cores

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
