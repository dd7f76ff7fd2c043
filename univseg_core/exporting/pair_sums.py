"""
Ranges of weights with which CPUs without int8 dot products compute int8 convolutions right.

An x86 CPU with VNNI or AMX adds products of unsigned activations and signed weights in 32 bits.
One without them (vpmaddubsw, of AVX2 and AVX-512) first adds two in 16 bits, and what goes beyond
is cut off: 255 · 127 fits, twice that does not. With 7 bits for all weights it would, for twice
the rounding error. But only pairs of large weights of one sign, beside one another, overflow.
"""

from typing import Any

import numpy as np


def weight_ranges(model: Any) -> dict[str, list[dict[str, Any]]]:
    """
    Return the range of each output channel of all convolutions' weights in an ONNX model.

    They are by the name of the weights, as ONNX Runtime's quantiser takes them
    (TensorQuantOverrides). With them, the integers of each pair add up to 128 at most.
    """
    from onnx import numpy_helper
    weights = {each.name: each for each in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == 'Conv' and node.input[1] in weights:
            ranges = largest_pairs(numpy_helper.to_array(weights[node.input[1]]))
            found[node.input[1]] = [{'axis': 0, 'symmetric': True, 'rmin': -largest,
                                     'rmax': largest} for largest in ranges]
    return found


def largest_pairs(weights: np.ndarray) -> np.ndarray:
    """
    Return the largest sum of two weights of one sign that are added first, (O,), none below 0.

    `weights` (O, C, …) are a convolution's. Where the signs of two differ, each counts alone.
    Runtimes add channel by channel of one place of the kernel, two by two: the first and the
    second, the third and the fourth. With an odd number of channels, some go on with those of
    the next place, others begin anew: all neighbours count. With one, nothing is added in pairs.
    """
    outputs, channels = weights.shape[:2]
    by_place = np.moveaxis(weights, 1, -1).reshape(outputs, -1)
    if channels == 1:
        return np.abs(by_place).max(1)
    step = 1 if channels % 2 else 2
    one, other = by_place[:, :-1:step], by_place[:, 1::step]
    return np.maximum(*(np.maximum(sign * one, 0) + np.maximum(sign * other, 0)
                        for sign in (1, -1))).max(1)
