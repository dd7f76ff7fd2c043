"""What may run the encoder of a model, by name, all with one contract."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
import os
import sys
from typing import Any, Protocol, runtime_checkable, TYPE_CHECKING, TypeAlias

import numpy as np
from univseg_core.errors import did_you_mean, UnivsegError
from univseg_core.models.exported_file import ExportedModel
from univseg_core.models.heads import LinearMap

if TYPE_CHECKING:  # PyTorch is imported by the backend that needs it alone
    import torch
    from univseg_core.models.universal import UniversalSegmenter

# Both runtimes would report their use, and the machine, to their makers over the network: OpenVINO
# when it is imported, from a process of its own; ONNX Runtime from 1.29 on.
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')

Array: TypeAlias = 'np.ndarray | torch.Tensor'
"""Features or logits: of NumPy, or of PyTorch on another device than the CPU."""

Network: TypeAlias = 'UniversalSegmenter | ExportedModel'
"""What a backend is made of: a network of PyTorch, or what `univseg export` has made of one."""

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16', 'int8')
"""What an encoder may compute in; which of them, the backend and the file decide."""


class Backend(Protocol):
    """
    The encoder of one model, on one device and at one precision, and what must follow it there.

    `device` is cpu, cuda:0 …; `precision` what the encoder computes in, as diagnostics tell it:
    fp32, bf16, fp16, int8.
    """

    device: str
    precision: str

    def features(self, image: np.ndarray) -> Array:
        """
        Return F(x) of an image (H, W, 3) uint8 RGB, of any size, contiguous; it may be changed.

        (C_F, ⌈H/stride⌉, ⌈W/stride⌉) float32, good until the next image comes: as
        `UniversalSegmenter.features` has them but for rounding, the image being normalised here.
        """

    def linear(self, each: LinearMap) -> LinearMap:
        """Return a linear map of arrays as one of features where this backend has them."""

    def top_classes(self, logits: Any, network_size: tuple[int, int], size: tuple[int, int],
                    stride: int, *, confidence: bool = False, threshold: float = 0.0
                    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return mask and confidence of logits (C, h, w), as `full_resolution` says."""


@runtime_checkable
class TakesBatches(Protocol):
    """What some backends can beyond that: several images in one pass of the encoder."""

    def features_of_several(self, images: np.ndarray) -> Sequence[Array]:
        """
        Return `features` of each of some images (N, H, W, 3) uint8 RGB, of one size.

        All are good until the next images come.
        """


@dataclass(frozen=True)
class BackendEntry:
    """
    A backend: `module` has the class `name`, made of a Network and names of device and precision.

    It runs files that were `exported`, or else model files. `package` is what it needs, `pip`
    what is installed for it. The class copies what it needs of a UniversalSegmenter, and raises
    UnivsegError for a device or precision that it does not have.
    """

    module: str
    name: str
    exported: bool
    package: str
    pip: str


BACKENDS = {
    'torch': BackendEntry('univseg_core.inference.torch_backend', 'TorchBackend', False, 'torch',
                          'torch torchvision timm'),
    'onnxruntime': BackendEntry('univseg_core.inference.onnxruntime_backend',
                                'OnnxRuntimeBackend', True, 'onnxruntime', 'onnxruntime'),
    'openvino': BackendEntry('univseg_core.inference.openvino_backend', 'OpenVinoBackend', True,
                             'openvino', 'openvino'),
}


def build_backend(name: str, network: Network, device: str, precision: str) -> Backend:
    """
    Return the backend of a name for a network.

    Raises UnivsegError for an unknown name, one that runs other files, or a package that is
    missing or cannot be imported, with what there is and what brings it.
    """
    if name not in BACKENDS:
        raise UnivsegError(f'backend {name!r}: expected one of {", ".join(BACKENDS)}'
                           f'{did_you_mean(name, BACKENDS)}')
    entry = BACKENDS[name]
    if entry.exported != isinstance(network, ExportedModel):
        fitting = ' or '.join(of_files(not entry.exported))
        kind = 'what `univseg export` made' if not entry.exported else 'a model of PyTorch'
        raise UnivsegError(f'backend {name!r} does not run {kind}, which is for {fitting}'
                           + ('; `univseg export MODEL` makes one that it runs'
                              if entry.exported else ''))
    try:
        import_module(entry.package)
        build: Callable[..., Backend] = getattr(import_module(entry.module), entry.name)
    except (AttributeError, ImportError, OSError) as error:  # such as one that is half removed
        raise UnivsegError(f'backend {name!r} needs the package {entry.package}, which cannot be '
                           f'imported ({error}): pip install {entry.pip}') from error
    return build(network, device, precision)


def version_of(name: str) -> str:
    """Return the version of a backend's package that is installed, whatever brought it."""
    # It takes a while to import, and is not always asked for.
    from importlib.metadata import PackageNotFoundError, packages_distributions, version
    package = BACKENDS[name].package
    try:
        return version(package)
    except PackageNotFoundError:  # onnxruntime-gpu brings onnxruntime
        return ', '.join(f'{each} {version(each)}'
                         for each in packages_distributions().get(package, ()))


def of_files(exported: bool) -> list[str]:
    """Return the names of the backends that run exported files, or else model files."""
    return [name for name, entry in BACKENDS.items() if entry.exported == exported]


def installed(exported: bool) -> list[str]:
    """Return those of the backends for a kind of files whose packages are installed."""
    return [name for name in of_files(exported) if find_spec(BACKENDS[name].package)]
