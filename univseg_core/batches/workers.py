"""Processes that prepare batches ahead of their use, and end with whoever started them."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
import logging
import multiprocessing
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
import os
import signal
import sys
import threading
import traceback
from typing import Any, Generic, Protocol, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from univseg_core.datasets.folders import DataError
from univseg_core.errors import UnivsegError
from univseg_core.machine.ending import die_with_parent

PREFETCH = 4
"""Steps that each worker prepares ahead."""

FEED_FAILED = 70
"""Exit status of a worker that could not send what it has made."""

PATIENCE = 2.0
"""Seconds in which a worker that was killed ends, unless a disk holds it, or a thread does."""

SHARED_MEMORY = '/dev/shm'

log = logging.getLogger(__name__)


class Movable(Protocol):
    """What holds tensors, such as a Batch."""

    def moved(self, move: Callable[[Any], Any]) -> Any:
        """Return the same with each tensor replaced by what `move` makes of it."""

    def pin_memory(self) -> Any:
        """Return the same in page-locked memory."""


BatchT = TypeVar('BatchT', bound=Movable)


def prepared(batches_of: Callable[[int], Sequence[BatchT]], steps: range, workers: int,
             pin_memory: bool = False) -> Generator[list[BatchT], None, None]:
    """
    Yield the batches of each step, made by `workers` processes ahead of use; 0 makes them here.

    They come by way of shared memory, or through a pipe where that is full. Whatever ends the
    iteration (its end, `close`, an error, the end of this process, also by SIGKILL) ends the
    workers. Raises the UnivsegError that `batches_of` raises, DataError where there is no room
    for workers in /dev/shm, and RuntimeError where a worker ends.
    """
    # Forked workers share the images in memory; elsewhere than on Linux forks are not safe.
    context = 'fork' if workers and sys.platform == 'linux' else None
    loader = DataLoader(_Steps(batches_of), batch_size=None, sampler=steps,
                        num_workers=workers, prefetch_factor=PREFETCH if workers else None,
                        collate_fn=_unchanged, pin_memory=pin_memory,
                        multiprocessing_context=context, worker_init_fn=_prepare_worker)
    told = False
    with _killed_afterwards(loader) as items:
        for item in items:
            if isinstance(item, UnivsegError):
                raise item
            if isinstance(item, _Piped):
                if not told:
                    told = True
                    log.warning('%s is full: batches come through pipes, which is slower. A '
                                'container gets more of it by docker run --shm-size=1g',
                                SHARED_MEMORY)
                item = item.batches
            yield item


@contextmanager
def _killed_afterwards(loader: DataLoader) -> Iterator[Iterable]:
    """Start a loader's workers; kill them in the end, since they do not listen to SIGTERM."""
    before = set(multiprocessing.active_children())
    workers: set[BaseProcess] = set()
    items: Iterable = ()
    try:
        try:
            if loader.num_workers:
                multiprocessing.Queue()  # a loader without room for one leaves a traceback
            items = iter(loader)
        except OSError as error:
            raise DataError(
                f'training.workers: no worker process can be started ({error.strerror}): '
                f'{SHARED_MEMORY} or memory is full, or processes are limited. A container gets '
                'more of the first by docker run --shm-size=1g; training.workers=0 needs none '
                'of them') from error
        finally:
            workers = set(multiprocessing.active_children()) - before
        try:
            yield items
        except (OSError, EOFError) as error:  # what came from it was cut off
            if lost := _lost(workers):
                raise lost from error
            raise
    finally:
        try:
            _end_pinning(items)
        finally:
            _kill(workers)


def _lost(workers: set[BaseProcess]) -> RuntimeError | None:
    """Return an error in PyTorch's words about a worker that has ended, if one has."""
    ending = wait([worker.sentinel for worker in workers], PATIENCE)
    for worker in (worker for worker in workers if worker.sentinel in ending):
        worker.join(PATIENCE)
        if worker.exitcode is not None:
            end = (f'exited unexpectedly with exit code {worker.exitcode}' if worker.exitcode >= 0
                   else f'is killed by signal: {signal.strsignal(-worker.exitcode)}')
            return RuntimeError(f'DataLoader worker (pid {worker.pid}) {end}')
    return None


def _end_pinning(items: Iterable) -> None:
    """
    End the thread that takes a loader's batches to page-locked memory, if there is one.

    It may be reading what a worker that was killed has sent but half. PyTorch, which knows the
    thread by an attribute of no documented interface, would wait for it without a limit.
    """
    parts: Any = getattr(items, '__dict__', {})
    thread = parts.pop('_pin_memory_thread', None)
    if thread is not None:
        parts['_pin_memory_thread_done_event'].set()
        results = parts['_worker_result_queue']
        results.cancel_join_thread()
        results.put((None, None))  # it wakes up and sees that
        thread.join(PATIENCE)
        if not thread.is_alive():  # that closes what it reads from
            results.close()


def _kill(workers: set[BaseProcess]) -> None:
    # PyTorch's handler would take it for a fault.
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if is_main else None
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(PATIENCE)
    if is_main and handler is not None:
        signal.signal(signal.SIGCHLD, handler)


class _Piped(Generic[BatchT]):
    """Batches that are sent by value, as arrays, where there is no shared memory for them."""

    def __init__(self, batches: Sequence[BatchT]):
        self._arrays = [batch.moved(torch.Tensor.numpy) for batch in batches]

    @property
    def batches(self) -> list[BatchT]:
        """Return the batches as they were."""
        return [arrays.moved(torch.as_tensor) for arrays in self._arrays]

    def pin_memory(self) -> '_Piped':
        """Return them in page-locked memory (what a DataLoader asks for by this name)."""
        pinned = _Piped[BatchT]([])
        pinned._arrays = [batch.pin_memory() for batch in self.batches]
        return pinned


def _sendable(batches: Sequence[BatchT]) -> Sequence[BatchT] | _Piped:
    """
    Return batches in shared memory, or what needs none where it is full.

    PyTorch would take it in a thread of its own, which loses what it has no room for.
    """
    try:
        for batch in batches:
            batch.moved(torch.Tensor.share_memory_)
    except (OSError, RuntimeError):
        return _Piped(batches)
    return batches


class _Steps(Dataset):
    """Hands a file's fault on as an item: a worker would wrap it into its own traceback."""

    def __init__(self, batches_of: Callable[[int], Sequence[Movable]]):
        self._batches_of = batches_of

    def __getitem__(self, step: int) -> Sequence[Movable] | _Piped | UnivsegError:
        """Return the batches of a step, or the error that it met."""
        try:
            batches = self._batches_of(step)
        except UnivsegError as error:
            return error
        return batches if get_worker_info() is None else _sendable(batches)


def _unchanged(item: Any) -> Any:
    return item


def _prepare_worker(worker: int) -> None:
    # Ctrl-C, a closed terminal and a service manager's SIGTERM reach every process; the training's
    # own ends the workers, when it has saved its state.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None
    die_with_parent(parent.pid)
    # What the queue's thread cannot send would be lost, and the training wait for it for ever.
    queue: Any = Queue  # a method that is not of its documented interface
    queue._on_queue_feeder_error = staticmethod(_end_worker)
    cv2.setNumThreads(0)  # a worker is one thread; more would fight for the same cores


def _end_worker(error: Exception, item: object) -> None:
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(FEED_FAILED)
