"""What all networks of a run are trained with."""

from dataclasses import dataclass

from lightning_fabric import Fabric
from univseg_core.batches.stores import Stores
from univseg_core.settings.config import RunConfig


@dataclass(frozen=True)
class RunContext:
    """What all networks of a run are trained with."""

    config: RunConfig
    fabric: Fabric
    stores: Stores
    workers: int
