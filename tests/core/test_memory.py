"""Running out of memory is recognised in every form that it takes, and nothing else is."""

import cv2
import numpy as np
import pytest
import torch
from univseg_core.machine.memory import is_out_of_memory


def raised(function, *arguments) -> BaseException:
    """Return what a call raises."""
    with pytest.raises(Exception) as error:
        function(*arguments)
    return error.value


# More than any machine can address.
EXHAUSTING = {
    'PyTorch on the CPU': lambda: torch.empty(2 ** 60, dtype=torch.uint8),
    'NumPy': lambda: np.empty(2 ** 60, np.uint8),
    'Python': lambda: bytes(2 ** 62),
    'OpenCV': lambda: cv2.repeat(np.zeros((1, 1, 4)), 2 ** 29, 2 ** 29),
}


@pytest.mark.parametrize('exhaust', EXHAUSTING.values(), ids=EXHAUSTING)
def test_memory_that_really_ran_out(exhaust):
    assert is_out_of_memory(raised(exhaust))


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError(),
    torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.'),
    RuntimeError('CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported'),
    RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`'),
    RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
    RuntimeError('std::bad_alloc'),
    RuntimeError('[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough '
                 'memory: you tried to allocate 8294400 bytes.'),
    RuntimeError('unable to mmap 128 bytes from file </torch_7>: Cannot allocate memory (12)'),
    RuntimeError('NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1131'),
    cv2.error('OpenCV(4.8.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate '
              '99532800 bytes in function OutOfMemoryError'),
], ids=str)
def test_memory_that_is_said_to_have_run_out(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize('error', [
    RuntimeError('mat1 and mat2 shapes cannot be multiplied'),
    RuntimeError('CUDA error: an illegal memory access was encountered'),
    ValueError('out of memory'),
    KeyboardInterrupt('out of memory'),
    raised(cv2.resize, np.zeros((2, 2, 3), np.uint8), (0, 0)),
], ids=repr)
def test_other_faults_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)
