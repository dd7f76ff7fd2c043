"""
A network in ONNX, in float32 → the same network in int8, with ranges that frames show.

Static quantisation (Jacob et al., CVPR 2018) by ONNX Runtime's tools: weights as signed integers
with a scale for each output channel, activations with one scale for each map, both written as
QuantizeLinear and DequantizeLinear beside the operators, which every runtime reads.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir, TemporaryDirectory
from typing import Any

import numpy as np
from univseg_core.errors import did_you_mean, UnivsegError
from univseg_core.exporting.depthwise_rounding import round_depthwise
from univseg_core.exporting.integer_pixels import take_in_normalisation, take_integers
from univseg_core.exporting.pair_sums import weight_ranges
from univseg_core.progress import progress_bar

PACKAGES = 'onnx onnxruntime'
"""What pip installs for it."""


@dataclass(frozen=True)
class Recipe:
    """
    How a runtime wants a network in int8.

    With `signed` activations, zero points are 0, and negative values have half of the integers;
    else they are unsigned, and the zero point lies where the range has it. `operators` are those
    whose inputs are quantised; empty: all that can be, and their outputs, too. `options` are
    those of ONNX Runtime's quantiser.
    """

    signed: bool
    operators: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


PRODUCTS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')

UNSIGNED = Recipe(signed=False)
"""
For CPUs, whose runtimes fold activation functions into unsigned ranges that begin at 0.

Weights have ranges, too, with which those without VNNI compute the same: see pair_sums.
"""

PRODUCTS_ALONE = Recipe(signed=False, operators=PRODUCTS,
                        options={'OpTypesToExcludeOutputQuantization': list(PRODUCTS)})
"""
For OpenVINO, which has what is added, and the features, in float32 at no cost.

ONNX Runtime would compute many convolutions in float32, and take longer.
"""

SIGNED = Recipe(
    signed=True, operators=PRODUCTS,
    options={
        'ActivationSymmetric': True, 'AddQDQPairToWeight': True, 'QuantizeBias': False,
        'DedicatedQDQPair': True,
        # So an activation function stays beside its convolution, and is fused with it.
        'OpTypesToExcludeOutputQuantization': list(PRODUCTS),
    })
"""For TensorRT, which takes no zero points but 0, and biases in float32."""

RECIPES = {'onnx': UNSIGNED, 'openvino': PRODUCTS_ALONE, 'tensorrt': SIGNED}
"""By the target of an export."""


def quantise(network: bytes, frames: Iterable[np.ndarray], target: str = 'onnx') -> bytes:
    """
    Return a network in int8; `network` is one in float32, and both are the bytes of an ONNX file.

    The network has one input, an image (H, W, 3) uint8, and `frames` are such images, at sizes
    that it takes: some hundred, of all domains evenly. They are run through it once each. Names,
    types and shapes of its inputs and outputs, and its metadata, stay. `target` is one of
    RECIPES.

    Raises UnivsegError for another target, no frame, a frame of another shape or type, a package
    that is missing, or a disk that has no room for its temporary files.
    """
    if target not in RECIPES:
        raise UnivsegError(f'target {target!r}: expected one of {", ".join(RECIPES)}'
                           f'{did_you_mean(target, RECIPES)}')
    recipe = RECIPES[target]
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.quant_utils import add_pre_process_metadata
    except ImportError as error:
        raise UnivsegError(f'int8 needs packages that cannot be imported ({error}): '
                           f'pip install {PACKAGES}') from error
    model = onnx.load_model_from_string(network)
    metadata = {each.key: each.value for each in model.metadata_props}
    add_pre_process_metadata(model)  # its batch norm is folded: there is nothing left to do before
    pixels = None if recipe.signed else take_in_normalisation(model)
    round_depthwise(model)
    chosen = {} if recipe.signed else weight_ranges(model)
    if pixels:
        chosen[pixels.floats] = [{'scale': np.array(1, np.float32),
                                  'zero_point': np.array(pixels.zero_point, np.uint8)}]
    options = {**recipe.options, 'TensorQuantOverrides': chosen}
    image = model.graph.input[0]
    shape = [dimension.dim_value for dimension in image.type.tensor_type.shape.dim]

    class Reader(quantization.CalibrationDataReader):
        """The frames, as the quantiser asks for them."""

        def __init__(self) -> None:
            self._frames = _checked(frames, shape)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next frame by the name of the network's input; None after the last."""
            frame = next(self._frames, None)
            return None if frame is None else {image.name: frame}

    kind = quantization.QuantType.QInt8 if recipe.signed else quantization.QuantType.QUInt8
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / 'int8.onnx'
            quantization.quantize_static(
                model, path, Reader(), per_channel=True, activation_type=kind,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=list(recipe.operators), extra_options=options)
            quantised = onnx.load(path)
    except OSError as error:
        raise UnivsegError(f'int8 is made in files of {gettempdir()}, which cannot be written: '
                           f'{error.strerror or error}; TMPDIR names another folder') from error
    if pixels:
        take_integers(quantised, pixels)
    onnx.helper.set_model_props(quantised, metadata)
    return quantised.SerializeToString()


def _checked(frames: Iterable[np.ndarray], shape: list[int]) -> Iterator[np.ndarray]:
    """Yield frames of the shape that a network's input has, 0 being any; at least one."""
    count = 0
    for count, frame in enumerate(progress_bar(frames, 'calibrate', unit='frame'), 1):
        fits = len(frame.shape) == len(shape) and all(
            wanted in (0, side) for wanted, side in zip(shape, frame.shape, strict=True))
        if not fits or frame.dtype != np.uint8:
            wanted = ', '.join(str(side or 'any') for side in shape)
            raise UnivsegError(f'calibration frame {count}: expected shape ({wanted}) and dtype '
                               f'uint8, got {frame.shape} of {frame.dtype}')
        yield frame
    if not count:
        raise UnivsegError('calibration: no frame; int8 needs some, of each domain, to see what '
                           'values the network has')
