"""What follows the encoder, on the CPU: in NumPy, whatever ran the encoder."""

from typing import Any

import numpy as np
from univseg_core.inference.full_resolution import top_classes
from univseg_core.models.heads import LinearMap


class OnCpu:
    """The part of a Backend that all have in common whose features are arrays of NumPy."""

    device = 'cpu'

    def linear(self, each: LinearMap) -> LinearMap:
        """Return the map as it is."""
        return each

    def top_classes(self, logits: np.ndarray, *sizes: Any, **options: Any
                    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return mask and confidence of logits, as `full_resolution.top_classes` does."""
        return top_classes(logits, *sizes, **options)
