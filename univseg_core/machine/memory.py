"""Running out of memory, however it is told, and giving memory back."""

import ctypes
import gc
import sys

import cv2

SIGNS = ('out of memory', 'allocate memory', 'not enough memory', 'Insufficient memory',
         'ALLOC_FAILED', 'bad_alloc', 'NVML_SUCCESS == r')
"""
What is said of it by CUDA, Linux, PyTorch, OpenCV, cuBLAS and cuDNN, C++, and by PyTorch on a
Jetson, which cannot ask there how much memory is left.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of Python, NumPy, PyTorch or OpenCV means that memory ran out."""
    # PyTorch's own error by its name: it may say nothing, and PyTorch need not be there.
    if isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError':
        return True
    return isinstance(error, (RuntimeError, cv2.error)) and any(
        sign in str(error) for sign in SIGNS)


def release_memory() -> None:
    """Give the memory of what is not used any more back to the system and the GPU."""
    gc.collect()
    release_gpu_memory()
    # glibc would keep it for itself: 130 MB of a model that took 150.
    malloc_trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if malloc_trim is not None:
        malloc_trim(0)


def release_gpu_memory() -> None:
    """Give the GPU memory that PyTorch keeps for later back; nothing where it is not used."""
    if (torch := sys.modules.get('torch')) is not None:
        torch.cuda.empty_cache()  # does nothing where CUDA was not used
