"""The processes of a training on this machine: they start together, and end together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
import logging
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import distributed
from univseg_core.machine.ending import (
    end_by_force,
    further,
    kill_all,
    STARTED_BY,
    status_in_words,
)
from univseg_core.training.interrupts import is_ending
from univseg_core.training.processes import EngineError

PATIENCE = 5.0
"""Seconds in which a process can end by itself, and say why, when another one has failed."""

HASTE = 3.0
"""Seconds that the others have where it is known why: by this process's own fault."""

POLL = 0.5
"""Seconds between two looks at the other processes."""

LOST = ('Connection closed', 'Connection reset', 'Connection refused', 'Broken pipe', 'gloo',
        'Application timeout', 'NCCL')
"""What errors say of a connection to a process that has gone."""

IN_USE = 'EADDRINUSE'
"""What errors say of a port that another program listens on."""

FOR_FURTHER = ('MASTER_ADDR', 'MASTER_PORT', 'NODE_RANK', 'WORLD_SIZE', 'LOCAL_RANK', STARTED_BY)
"""The environment variables that tell a process its place among the others."""

log = logging.getLogger(__name__)


@contextmanager
def launched(fabric: Fabric) -> Iterator[None]:
    """
    Start the further processes of this machine, which run the same program, and join them all.

    They have ended when this does, and so does this one when one of them fails, or their first
    one ends: within PATIENCE or HASTE by itself, else by force. Raises EngineError where another
    one had failed before, or the connection to the others is lost.
    """
    with _environment_restored(), _further_processes(fabric) as processes:
        ended = threading.Event()
        threading.Thread(target=_watch, args=(_fault_of_others(fabric), ended), daemon=True,
                         name='processes of this training').start()
        if isinstance(fabric.strategy, DDPStrategy) and fabric.strategy.num_nodes > 1:
            log.info('waiting for the processes of all %d machines at %s:%s',
                     fabric.strategy.num_nodes, os.environ.get('MASTER_ADDR'),
                     os.environ.get('MASTER_PORT'))
        try:
            fabric.launch()
            yield
        except BaseException as error:
            lost = fabric.world_size > 1 and is_lost_connection(error)
            statuses = _end(processes, PATIENCE if lost else HASTE)
            if not lost:
                raise
            if any(statuses):
                raise EngineError(_failed(statuses)) from error
            reason = str(error).partition('\n')[0]
            if IN_USE in reason:
                raise EngineError('the processes of this training cannot meet at port '
                                  f'{os.environ["MASTER_PORT"]} (MASTER_PORT), which another '
                                  'program has: name another one, or none') from error
            raise EngineError('the connection to another process of this training is lost '
                              f'({reason})') from error
        finally:
            ended.set()


@contextmanager
def _environment_restored() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in FOR_FURTHER:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _further_processes(fabric: Fabric) -> Iterator[list[subprocess.Popen]]:
    """
    Start this program anew for each further process of this machine, unless torchrun or srun has.

    Fabric's own launcher would do so in the same way; but it then kills this process as soon as
    another has failed, without a word.
    """
    strategy = fabric.strategy
    environment = strategy.cluster_environment if isinstance(strategy, DDPStrategy) else None
    if isinstance(strategy, DDPStrategy) and environment and (
            not environment.creates_processes_externally):
        os.environ |= {'MASTER_ADDR': environment.main_address,
                       'MASTER_PORT': str(environment.main_port),
                       'NODE_RANK': str(environment.node_rank()),
                       'WORLD_SIZE': str(strategy.num_processes * strategy.num_nodes),
                       STARTED_BY: str(os.getpid())}
        for rank in range(1, strategy.num_processes):
            further.append(subprocess.Popen(
                this_program(), env={**os.environ, 'LOCAL_RANK': str(rank)}))
        os.environ['LOCAL_RANK'] = '0'  # by which Fabric knows that they are started
    try:
        yield further
    finally:
        _end(further, PATIENCE)
        further.clear()


def this_program() -> list[str]:
    """Return the command line that runs this program anew."""
    spec = getattr(sys.modules['__main__'], '__spec__', None)
    program = ['-m', spec.name] if spec else [str(Path(sys.argv[0]).absolute())]
    return [sys.executable, *program, *sys.argv[1:]]


def _fault_of_others(fabric: Fabric) -> Callable[[], str | None]:
    """Return what says that this process cannot go on without another one, and why."""
    if fabric.local_rank == 0:
        def failed() -> str | None:
            statuses = [each.poll() for each in further]
            return _failed(statuses) if any(statuses) else None
        return failed
    parent = os.getppid()
    return lambda: (None if os.getppid() == parent else
                    'the first process of this training has ended, and so does this one')


def _failed(statuses: Sequence[int | None]) -> str:
    told = ', '.join(map(status_in_words, filter(None, statuses)))
    return f'another process of this training has failed ({told}); what it wrote above says why'


def is_lost_connection(error: BaseException) -> bool:
    """Say whether an error means that another process of a training has gone."""
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST))


def _watch(fault: Callable[[], str | None], ended: threading.Event) -> None:
    """End this process by force where it has a fault for longer than PATIENCE."""
    while not ended.wait(POLL):
        # After a signal, that of others are ending, too, and its own watch limits its end.
        if not is_ending() and (reason := fault()) and not ended.wait(PATIENCE):
            end_by_force(1, f'univseg train: {reason}')


def _end(processes: Sequence[subprocess.Popen], seconds: float) -> list[int | None]:
    """Return the exit statuses of processes that end in some seconds; kill those that do not."""
    until = time.monotonic() + seconds
    try:
        for each in processes:
            with suppress(subprocess.TimeoutExpired):
                each.wait(max(0.0, until - time.monotonic()))
        return [each.poll() for each in processes]
    finally:
        kill_all(processes)
