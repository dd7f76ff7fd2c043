"""Weights made by a formula: the same on every machine and in every version of PyTorch."""

import math

import numpy as np
import torch


def formula_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """
    Return a float32 state for named shapes.

    Element j of the i-th name in alphabetical order is sin(1 + i + j·√2·(1 + i/97)), in float64,
    scaled to what its kind of parameter needs: convolutions to He's standard deviation,
    batch-norm scales and variances to around 1, the rest to around 0.
    """
    state = {}
    for i, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        j = np.arange(math.prod(shape), dtype=np.float64)
        wave = np.sin(1 + i + j * math.sqrt(2) * (1 + i / 97)).reshape(shape)
        if len(shape) == 4:
            values = wave * math.sqrt(2) * math.sqrt(2 / math.prod(shape[1:]))
        elif name.endswith(('weight', 'running_var')):
            values = 1 + 0.3 * wave
        else:
            values = 0.1 * wave
        state[name] = torch.from_numpy(values).float()
    return state


def formula_image(height: int, width: int) -> torch.Tensor:
    """Return a (1, 3, height, width) float32 image of about unit variance."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(height), np.arange(width), indexing='ij')
    values = np.sin(0.31 * x + c) + np.cos(0.23 * y - 0.5 * c) + 0.5 * np.sin(0.05 * x * y)
    return torch.from_numpy(values[None]).float()
