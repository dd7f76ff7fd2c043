"""The fastest that this machine multiplies large matrices, in the worker's own process."""

from collections.abc import Callable, Iterator
from itertools import count
import time
from typing import Any

import numpy as np

SMALLEST, LARGEST = 256, 4096
"""Rows and columns of the square matrices."""

LONGEST = 0.03
"""Seconds that a product may take for one of twice as large matrices to be tried."""

Product = Callable[[], object]


class Ceiling:
    """What a worker says when it is `ready`, and measures in each turn."""

    def __init__(self, precisions: list[str], device: str):
        self.ready: dict[str, Any] = {}
        self._best = dict.fromkeys(precisions, 0.0)
        self._products = {precision: list(_fastest(precision, device))
                          for precision in precisions}

    def turn(self, seconds: float) -> dict[str, float]:
        """
        Return the best rate so far of each precision, in 10⁹ operations a second.

        A multiplication and an addition are two. The rate is 0 where nothing here multiplies in
        the precision. Each product is made twice, however many `seconds` there are.
        """
        for precision, products in self._products.items():
            for operations, product in products:
                self._best[precision] = max(self._best[precision],
                                            operations / _shortest(product, 2) / 1e9)
        return self._best


def begin(job: dict[str, Any]) -> Ceiling:
    """Return the ceiling of a job's `precisions` on its `device`."""
    return Ceiling(job['precisions'], job['device'])


def _fastest(precision: str, device: str) -> Iterator[tuple[float, Product]]:
    """Yield the operations and the product of each library, at the size where it is fastest."""
    for make in _makers(precision, device):
        best, rate = None, 0.0
        for size in (SMALLEST << n for n in count()):
            product, operations = make(size), 2.0 * size**3
            seconds = _shortest(product, 3)
            if operations / seconds > rate:
                best, rate = (operations, product), operations / seconds
            if seconds > LONGEST or size == LARGEST:
                break
        assert best is not None
        yield best


def _makers(precision: str, device: str) -> Iterator[Callable[[int], Product]]:
    """Yield what makes products of a size, for each library that has the precision here."""
    if precision == 'fp32' and device == 'cpu':
        yield _of_numpy
    try:
        import torch
    except (ImportError, OSError):
        return
    types = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16,
             'int8': torch.int8}

    def of_torch(size: int) -> Product:
        values = torch.ones(size, size, device=device).to(types[precision])
        multiply = torch._int_mm if precision == 'int8' else torch.mm

        def product() -> object:
            found = multiply(values, values)
            if device != 'cpu':
                torch.cuda.synchronize()
            return found
        return product

    try:
        of_torch(SMALLEST)()
    except (AttributeError, NotImplementedError, RuntimeError):
        return  # this PyTorch, or this device, multiplies nothing in that precision
    yield of_torch


def _of_numpy(size: int) -> Product:
    values = np.ones((size, size), np.float32)
    return lambda: values @ values


def _shortest(product: Product, times: int) -> float:
    """Return the shortest time of a product, which is made so many `times`, in seconds."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        product()
        found.append(time.perf_counter() - begin)
    return max(min(found), 1e-9)
