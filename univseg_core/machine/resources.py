"""The machine's memory and CPU cores, and what they allow in the preparation of batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
import logging
import os
from pathlib import Path
from typing import TypeVar

from univseg_core.machine.processors import cpu_cores
from univseg_core.progress import progress_bar

Item = TypeVar('Item')
Result = TypeVar('Result')

AHEAD = 2
"""Items for each thread that are in work, or done and not yet asked for."""

PROC = Path('/proc')
CGROUPS = Path('/sys/fs/cgroup')
MOST_WORKERS = 8
"""More workers than this a training process hardly ever keeps busy."""

log = logging.getLogger(__name__)


def available_memory() -> int:
    """
    Return the bytes of memory that this process may still take without harm to others.

    That is Linux's own estimate (MemAvailable), or what is left of a control group's limit where
    that is less, as in a container. Systems without /proc give all of their memory.
    """
    try:
        lines = (PROC / 'meminfo').read_text(encoding='ascii').splitlines()
        fields = dict(line.split(':', 1) for line in lines)
        machine = 1024 * int(fields['MemAvailable'].split()[0])
    except (OSError, KeyError):
        machine = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return max(0, min([machine, *_left_in_cgroups()]))


def _left_in_cgroups() -> Iterator[int]:
    """Yield the bytes left of each memory limit that this process and its parent groups have."""
    try:
        lines = (PROC / 'self' / 'cgroup').read_text(encoding='utf-8').splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(':', 2)
        if not controllers:  # version 2
            root, limit, usage, cache = CGROUPS, 'memory.max', 'memory.current', 'inactive_file'
        elif 'memory' in controllers.split(','):
            root, limit, usage, cache = (CGROUPS / 'memory', 'memory.limit_in_bytes',
                                         'memory.usage_in_bytes', 'total_inactive_file')
        else:
            continue
        # In a container, the group's name may be the host's: then only the root is there.
        for folder in (root / group.lstrip('/') / 'x').parents:
            if folder == root.parent:
                break
            try:
                most = int((folder / limit).read_text(encoding='ascii'))
                used = int((folder / usage).read_text(encoding='ascii'))
                lines = (folder / 'memory.stat').read_text(encoding='ascii').splitlines()
            except (OSError, ValueError):  # not there, or 'max': no limit
                continue
            # Files that were read once count as used, though the kernel gives them up at need.
            yield most - used + int(dict(line.split() for line in lines).get(cache, 0))


def choose_workers(asked: int | None, cuda: bool, processes: int, in_memory: bool) -> int:
    """
    Return how many worker processes prepare one training process's batches, and log why.

    `asked` is the user's own number, which holds, or None. `processes` is the number of training
    processes on this machine; `in_memory` says whether the images are held decoded.
    """
    cores = cpu_cores()
    if asked is not None:
        workers, reason = asked, 'training.workers'
    elif cuda:
        workers = max(1, min(MOST_WORKERS, cores // processes - 1))
        reason = f'CPU cores: {cores}, training processes: {processes}, CUDA'
    elif in_memory:
        workers, reason = 0, 'everything in memory, training on the CPU'
    else:
        workers, reason = 1, 'images read from disk, training on the CPU'
    log.info('workers: %d (%s)', workers, reason)
    return workers


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], title: str,
               progress: bool = True) -> Iterator[Result]:
    """
    Yield the result of each item, in order, from a thread on each CPU core.

    Of items that are made one by one, few are held at a time. A progress bar counts them as
    images. What `work` raises, this raises in its turn.
    """
    cores = cpu_cores()
    with ThreadPoolExecutor(cores) as pool:
        def results() -> Iterator[Result]:
            waiting: deque[Future[Result]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > AHEAD * cores:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            total = len(items) if isinstance(items, Sized) else None
            yield from progress_bar(results(), title, total, leave=False, disable=not progress)
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the rest
