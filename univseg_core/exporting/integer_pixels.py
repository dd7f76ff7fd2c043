"""
Pixels as the integers of a network's first convolution, without the floats in between.

A network that normalises its image, (pixel − mean) / deviation, and is then quantised turns
integers into floats and these into integers again: by ONNX Runtime on a CPU, that is a third of
the time of a small one. The deviation and the mean can be the convolution's instead, but for a
zero point that all channels share, and that stands for what lies beyond the image's border.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pixels:
    """Where pixels come into a network: names of what holds them as integers, and as floats."""

    integers: str
    floats: str
    zero_point: int


def take_in_normalisation(model: Any) -> Pixels | None:
    """
    Move the normalisation of an ONNX model's image into its first convolutions; in place.

    All that is left of it is a subtraction of the zero point, the rounded mean of all channels.
    Away from the border the network computes the same; at the border, the padding is that grey
    and not each channel's mean. Returns None, and leaves the model as it was, where it does not
    begin with a normalisation and convolutions.
    """
    from onnx import numpy_helper
    values = {each.name: each for each in model.graph.initializer}
    for cast, subtraction, division in _normalisations(model):
        users = [node for node in model.graph.node if division.output[0] in node.input]
        needed = [subtraction.input[1], division.input[1],
                  *(name for node in users for name in node.input[1:])]
        shared = [node for node in model.graph.node
                  if node not in users and any(name in node.input for user in users
                                               for name in user.input[1:])]
        if shared or not all(name in values for name in needed) or not all(
                node.op_type == 'Conv' and len(node.input) == 3
                and values[node.input[1]].dims[1] == 3 for node in users):
            continue
        mean, deviation = (numpy_helper.to_array(values[name]).astype(np.float64).ravel()
                           for name in needed[:2])
        grey = round(mean.mean())
        for node in users:
            weights, bias = (numpy_helper.to_array(values[name]).astype(np.float64)
                             for name in node.input[1:])
            weights /= np.broadcast_to(deviation, 3)[:, None, None]
            bias += weights.sum((2, 3)) @ np.broadcast_to(grey - mean, 3)
            for name, value in zip(node.input[1:], (weights, bias), strict=True):
                values[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
            node.input[0] = subtraction.output[0]
        grey_name = f'{subtraction.output[0]}_grey'
        model.graph.initializer.append(
            numpy_helper.from_array(np.array(grey, np.float32), grey_name))
        subtraction.input[1] = grey_name
        model.graph.node.remove(division)
        _drop_unused(model, needed[:2])
        return Pixels(cast.input[0], subtraction.output[0], grey)
    return None


def _normalisations(model: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield Cast, Sub, Div where they follow one another, and nothing else has their results."""
    makers = {name: node for node in model.graph.node for name in node.output}
    uses = [name for node in model.graph.node for name in node.input]
    for division in [node for node in model.graph.node if node.op_type == 'Div']:
        subtraction = makers.get(division.input[0])
        cast = makers.get(subtraction.input[0]) if subtraction else None
        if (cast and subtraction and cast.op_type == 'Cast' and subtraction.op_type == 'Sub'
                and uses.count(cast.output[0]) == uses.count(subtraction.output[0]) == 1):
            yield cast, subtraction, division


def take_integers(quantised: Any, pixels: Pixels) -> None:
    """Give the pixels themselves to what a quantised ONNX model reads as integers; in place."""
    nodes = quantised.graph.node
    makers = {name: node for node in nodes for name in node.output}
    rounding = [node for node in nodes
                if node.op_type == 'QuantizeLinear' and node.input[0] == pixels.floats]
    for node in nodes:
        for place, name in enumerate(node.input):
            if any(name in each.output for each in rounding):
                node.input[place] = pixels.integers
    subtraction = makers[pixels.floats]
    gone = [*rounding, subtraction, makers[subtraction.input[0]]]
    for node in gone:
        nodes.remove(node)
    _drop_unused(quantised, [name for node in gone for name in node.input])


def _drop_unused(model: Any, names: list[str]) -> None:
    """Remove those constants of these names that no node has: runtimes would warn of them."""
    used = {name for node in model.graph.node for name in node.input}
    for constant in list(model.graph.initializer):
        if constant.name in names and constant.name not in used:
            model.graph.initializer.remove(constant)
