"""NVIDIA's GPUs as their driver tells of them, without PyTorch."""

import ctypes
from dataclasses import dataclass

COMPUTE_CAPABILITY = (75, 76)
"""The CUDA driver's numbers of the attributes that hold its major and minor version."""


@dataclass(frozen=True)
class Gpu:
    """
    A GPU that this process may use.

    Its `name`, the version of its compute `capability`, such as 8.7, and the newest CUDA that the
    `driver` runs, such as 12.6.
    """

    name: str
    capability: str
    driver: str


def cuda_gpus() -> list[Gpu]:
    """Return NVIDIA's GPUs in the order of cuda:0, cuda:1 …; none where there is no driver."""
    try:
        cuda = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return []
    count, driver = ctypes.c_int(), ctypes.c_int()
    # Each function returns 0 where all is well; without a GPU, the first already does not.
    if cuda.cuInit(0) or cuda.cuDriverGetVersion(ctypes.byref(driver)) or cuda.cuDeviceGetCount(
            ctypes.byref(count)):
        return []
    version = f'{driver.value // 1000}.{driver.value % 1000 // 10}'
    return [_gpu(cuda, i, version) for i in range(count.value)]


def _gpu(cuda: ctypes.CDLL, index: int, driver: str) -> Gpu:
    device, name, number = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    numbers = []
    for attribute in COMPUTE_CAPABILITY:
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        numbers.append(str(number.value))
    return Gpu(name.value.decode(errors='replace'), '.'.join(numbers), driver)
