"""What may run the encoder of a model, by name, all with one contract."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from univseg_core.errors import UnivsegError
from univseg_core.inference.torch_backend import TorchBackend
from univseg_core.models.universal import UniversalSegmenter


class Backend(Protocol):
    """
    The encoder of one model, on one device and at one precision.

    All else of a frame (its scaling, the heads, masks at its own size) is the Segmenter's, which
    runs it in PyTorch on `device`, where the features lie. `precision` is what the encoder
    computes in, as diagnostics tell it: float32, bfloat16.
    """

    device: torch.device
    precision: str

    def features(self, image: np.ndarray) -> torch.Tensor:
        """
        Return F(x) of an image (H, W, 3) uint8 RGB, of any size, contiguous and its own to change.

        A tensor (1, C_F, ⌈H/stride⌉, ⌈W/stride⌉) float32 on `device`, a new one for each image: as
        `UniversalSegmenter.features` has it but for rounding, the image being normalised here.
        """


BACKENDS: dict[str, Callable[[UniversalSegmenter, str, str], Backend]] = {
    'torch': TorchBackend,
}
"""
What makes each of a model, the name of a device and that of a precision.

Of the model, float32 and in evaluation mode, the encoder is the backend's own, to be changed at
will; all else is not. UnivsegError tells of a device or precision that the backend does not have.
One that needs a package beside PyTorch imports it as it is made.
"""


def build_backend(name: str, model: UniversalSegmenter, device: str, precision: str) -> Backend:
    """Return the backend of a name for a model; UnivsegError, with what there is, for another."""
    if name not in BACKENDS:
        raise UnivsegError(f'backend {name!r}: expected one of {", ".join(BACKENDS)}')
    return BACKENDS[name](model, device, precision)
