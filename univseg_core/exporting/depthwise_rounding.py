"""
Depthwise convolutions' weights, rounded to int8 so that the sum of each kernel stays.

Activations are above 0 and smooth. So an error that rounding makes in the sum of a kernel's
weights shifts a whole channel, and a depthwise kernel, of few weights of one channel, has no
others to make up for it. In encoders of MobileNet's kind, that is most of what int8 costs.
Rounding some of the weights the other way avoids it, without any images.
"""

from typing import Any

import numpy as np


def round_depthwise(model: Any) -> None:
    """Round the weights of an ONNX model's depthwise convolutions; they stay floats; in place."""
    from onnx import numpy_helper
    values = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == 'Conv' and node.input[1] in values:
            weights = numpy_helper.to_array(values[node.input[1]])
            if weights.shape[1] == 1:
                values[node.input[1]].CopyFrom(
                    numpy_helper.from_array(keep_sums(weights), node.input[1]))


def keep_sums(weights: np.ndarray) -> np.ndarray:
    """
    Return weights (O, …) float32 as multiples of 1/127 of the largest of each output channel.

    Each is one of the two multiples beside it, and the sum of a channel's is the nearest to what
    it was. The largest stays as it is, so that a quantiser finds the same multiples.
    """
    steps = weights.reshape(len(weights), -1).astype(np.float64)
    step = np.abs(steps).max(1, keepdims=True) / 127
    step[step == 0] = 1
    steps /= step
    rounded = np.round(steps)
    missing = np.round((steps - rounded).sum(1, keepdims=True))
    # Those change that were rounded furthest against it.
    order = np.argsort(-np.sign(missing) * (steps - rounded), axis=1)
    rounded += np.sign(missing) * (np.argsort(order, axis=1) < np.abs(missing))
    return (rounded * step).reshape(weights.shape).astype(np.float32)
