"""What all networks of a run are trained with."""

from dataclasses import dataclass

from lightning.fabric import Fabric
from univseg_core.config import RunConfig
from univseg_core.data.stores import Stores


@dataclass(frozen=True)
class Setup:
    """What all networks of a run are trained with."""

    config: RunConfig
    fabric: Fabric
    stores: Stores
    workers: int
