"""A network of PyTorch → an ONNX model: an image in, features out."""

import copy
from typing import Any
import warnings

import torch
from torch import nn
from univseg_core.errors import UnivsegError
from univseg_core.inference.torch_backend import folded
from univseg_core.models.exported_file import FEATURES
from univseg_core.models.model_card import LARGEST_SIDE
from univseg_core.models.normalisation import Normalisation
from univseg_core.models.universal import UniversalSegmenter

OPSET = 18
"""ONNX's operator set: TensorRT 8.6, OpenVINO 2023 and ONNX Runtime 1.15 read it already."""

TRACED_SIZE = (96, 160)
"""Height and width in pixels of the image with which a network for any size is traced."""

SMALLEST_SIDE = 64
"""Sides in pixels from which on a network for images of any size must be right."""


class ExportError(UnivsegError):
    """A network that cannot be exported, or an export that is not good enough."""


class _FromImage(nn.Module):
    """From an image (H, W, 3) uint8 RGB to the features (1, h, w, C_F) float32 of a network."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, normalisation: Normalisation):
        super().__init__()
        self.network = network
        for name, values in normalisation.to_dict().items():
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # Neither a step in three dimensions nor one over the last axis: runtimes are slow at both.
        pixels = image.unsqueeze(0).permute(0, 3, 1, 2).float()
        # As the runtimes have them in memory: planes would be one more copy.
        return self.network((pixels - self.mean) / self.std).permute(0, 2, 3, 1)


def encoder_to_onnx(model: UniversalSegmenter, size: tuple[int, int] | None) -> bytes:
    """Return the ONNX model of a model's encoder, batch norms folded, as `to_onnx` does."""
    encoder = folded(copy.deepcopy(model.encoder).float().eval(), model.spec.encoder)
    return to_onnx(encoder, model.spec.encoder, model.normalisation, size)


def to_onnx(network: nn.Module, name: str, normalisation: Normalisation,
            size: tuple[int, int] | None) -> bytes:
    """
    Return the ONNX model of a network, for images of a size (height, width) or any.

    The network makes features (1, C_F, ⌈H/stride⌉, ⌈W/stride⌉) of normalised images (1, 3, H, W).
    The ONNX model's input is `image` (H, W, 3) uint8 RGB, its output `features` (1, ⌈H/stride⌉,
    ⌈W/stride⌉, C_F) float32. Raises ExportError where packages are missing, with the pip line, or
    where the network cannot be exported, with its name and the reason.
    """
    if not hasattr(torch.onnx, 'ops'):
        raise ExportError(f'exporting needs PyTorch 2.8 or newer; this is {torch.__version__}')
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(f'exporting needs the packages onnx and onnxscript ({error}): '
                          'pip install onnx onnxscript') from error
    module = _FromImage(network, normalisation).eval()
    image = torch.zeros(*(size or TRACED_SIZE), 3, dtype=torch.uint8)
    sides = {i: torch.export.Dim(name, min=1, max=LARGEST_SIDE)
             for i, name in enumerate(('height', 'width'))}
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter('ignore')
            program = torch.onnx.export(
                module, (image,), dynamo=True, input_names=['image'], output_names=[FEATURES],
                opset_version=OPSET, verbose=False,
                dynamic_shapes=None if size else {'image': sides})
    except Exception as error:  # whatever an encoder's layers lead to
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ExportError(
            f'{name} cannot be exported for '
            f'{"this size" if size else "images of any size"} '
            f'({type(error).__name__}: {" ".join(lines)[:300]})'
            + ('' if size else '; with --size WIDTHxHEIGHT it may be')) from error
    assert program is not None  # of dynamo=True
    if size is None:
        _check_ranges(program, name)
    return _without_notes(program.model_proto).SerializeToString()


def _without_notes(model: Any) -> Any:
    """
    Return a ModelProto without what PyTorch notes beside each operator for those who debug it.

    These take a thousand bytes each, and hold paths of this machine's source files.
    """
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input,
                 *graph.output, *model.functions, *(n for f in model.functions for n in f.node)):
        del part.metadata_props[:]
        part.doc_string = ''
    return model


def _check_ranges(program: torch.onnx.ONNXProgram, network: str) -> None:
    """Raise ExportError where the traced network holds for some sizes alone."""
    exported = program.exported_program
    assert exported is not None
    ranges = {str(symbol): bounds for symbol, bounds in exported.range_constraints.items()}
    image = next(node for node in exported.graph.nodes if node.name == 'image')
    for what, side in zip(('height', 'width'), image.meta['val'].shape, strict=False):
        bounds = ranges.get(str(side))
        if bounds is None or bounds.lower > SMALLEST_SIDE or bounds.upper < LARGEST_SIDE:
            of = f'of {bounds.lower} to {bounds.upper}' if bounds else f'of {side}'
            raise ExportError(
                f'{network} cannot be exported for images of any size: it goes another way where '
                f'their {what} is not {of} pixels; with --size WIDTHxHEIGHT it may be')
