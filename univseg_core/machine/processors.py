"""The processors that this process may run on, and what they are good at."""

import os
from pathlib import Path
import platform

CPUINFO = Path('/proc/cpuinfo')


def cpu_cores() -> int:
    """Return the number of CPU cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """Return what the processor calls itself; '' where it does not say."""
    names = (line.partition(':')[2].strip() for line in _cpuinfo().splitlines()
             if line.startswith(('model name', 'Model')))
    return next(names, platform.processor())


def is_good_at_bf16() -> bool:
    """Say whether bf16 convolutions run faster than float32 ones on this CPU."""
    # Only those with AMX gain: with AVX-512 BF16 alone a narrow network gets slower.
    return 'amx_bf16' in _cpuinfo()


def _cpuinfo() -> str:
    return CPUINFO.read_text(encoding='utf-8', errors='replace') if CPUINFO.exists() else ''
