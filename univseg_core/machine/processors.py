"""The processors that this process may run on, and what they are good at."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
import os
from pathlib import Path
import platform

from threadpoolctl import ThreadpoolController

CPUINFO = Path('/proc/cpuinfo')

INSTRUCTION_SETS = {
    'avx2': 'AVX2', 'avx512f': 'AVX-512', 'avx_vnni': 'AVX-VNNI', 'avx512_vnni': 'AVX-512 VNNI',
    'avx512_bf16': 'AVX-512 BF16', 'amx_bf16': 'AMX BF16', 'amx_int8': 'AMX int8',
    'asimd': 'NEON', 'asimddp': 'NEON dot products', 'sve': 'SVE', 'bf16': 'NEON BF16'}
"""Instruction sets that decide how fast networks are, by Linux's word for each."""


def cpu_cores() -> int:
    """Return the number of CPU cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """
    Let NumPy's products of matrices in the block run on one thread.

    OpenBLAS's threads keep their cores busy for tens of ms while they wait for the next product;
    an encoder could run there. Products of features and heads gain less than that by threads.
    """
    # By hand: a limiter of threadpoolctl takes longer than the small products that it is for.
    several = [(library, count) for library in _blas().lib_controllers
               if (count := library.get_num_threads()) != 1]
    for library, _ in several:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, count in several:
            library.set_num_threads(count)


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api='blas')


def cpu_name() -> str:
    """Return what the processor calls itself; '' where it does not say."""
    names = (line.partition(':')[2].strip() for line in _cpuinfo().splitlines()
             if line.startswith(('model name', 'Model')))
    return next(names, platform.processor())


def is_good_at_bf16() -> bool:
    """Say whether bf16 convolutions run faster than float32 ones on this CPU."""
    # Only those with AMX gain: with AVX-512 BF16 alone a narrow network gets slower.
    return 'amx_bf16' in _cpuinfo()


def instruction_sets() -> list[str]:
    """Return those of `INSTRUCTION_SETS` that this CPU has; none where the system does not say."""
    flags = set(_cpuinfo().split())
    return [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]


def _cpuinfo() -> str:
    return CPUINFO.read_text(encoding='utf-8', errors='replace') if CPUINFO.exists() else ''
