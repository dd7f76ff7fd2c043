"""The rows of a benchmark: what is measured, in turn, and what is found."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
import logging
from math import prod
from pathlib import Path
import statistics
from typing import Any

from univseg_core.benchmarking.processes import Worker, WorkerError
from univseg_core.errors import first_few, UnivsegError
from univseg_core.machine.resources import available_memory
from univseg_core.progress import progress_bar

MEGABYTE = 10**6

FLOAT = 4
"""Bytes of a value in the network."""

COUNTING = 4
"""Memory that counting a network's operations takes, as a multiple of what measuring it took."""

Size = tuple[int, int]
"""Height and width in pixels."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """
    A file and what runs it.

    `model` is its name in the table, `miou` the mean of its domains' validation mIoUs (0..1) where
    they are known, `random` whether its weights are. The features of one without heads
    (`has_heads`) are logits already. `sizes` are the (height, width) in pixels that the network is
    to see.
    """

    model: str
    path: Path
    backend: str
    precision: str
    sizes: tuple[Size, ...]
    has_heads: bool = True
    random: bool = False
    miou: float | None = None


@dataclass(frozen=True)
class Row:
    """A candidate with so many CPU threads, at a size (height, width) in pixels."""

    candidate: Candidate
    threads: int
    size: Size

    def __str__(self) -> str:
        """Return it in words."""
        of, (height, width) = self.candidate, self.size
        return (f'{of.model} by {of.backend} in {of.precision}, {width}×{height}, {self.threads} '
                f'thread{"s" if self.threads > 1 else ""}')


@dataclass(frozen=True)
class Conditions:
    """
    What all rows have in common.

    `image` is the (height, width) in pixels of what comes in, `domains` how many masks are made
    of it (None: of all domains), `device` that of the encoder. Each row is measured in so many
    `rounds`, at least; the rounds of all rows together take about `seconds`.
    """

    image: tuple[int, int] = (720, 1280)
    domains: int | None = 1
    device: str = 'cpu'
    rounds: int = 7
    seconds: float = 60.0


@dataclass(frozen=True)
class Result:
    """
    What was found of a row.

    `median_ms` and `p95_ms` are of whole frames, in milliseconds, `tail_share` is the tail's share
    of them (0..1). `startup_s` is the time from the process's start to its first mask, in
    seconds, `memory_mb` what it has resident in the end, in 10⁶ bytes. `gflop` are the encoder's
    10⁹ operations, `ceiling_share` is their rate over `ceiling_gflops`, the machine's own in the
    precision with these threads; None where they are not known.
    """

    model: str
    backend: str
    precision: str
    device: str
    threads: int
    width: int
    height: int
    median_ms: float
    p95_ms: float
    frames_per_second: float
    encoder_ms: float
    tail_share: float
    startup_s: float
    memory_mb: float
    gflop: float | None
    ceiling_gflops: float | None
    ceiling_share: float | None
    miou: float | None
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


@dataclass
class Found:
    """All results, and the rows that were left out, in words, with the reason of each."""

    results: list[Result] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def measure(rows: Sequence[Row], conditions: Conditions) -> Found:
    """
    Measure all rows, each in a process of its own, in turn: a few frames of each, in each round.

    So all of them have the same share of what else the machine does. Rows whose process fails are
    left out. Raises UnivsegError where none is left, or memory for so many processes is not there.
    """
    found = Found()
    frames: dict[Row, list[list[float]]] = {}
    memory: dict[Row, float] = {}
    with ExitStack() as stack:
        workers: dict[Row, Worker] = {}
        for row in progress_bar(rows, 'start', unit='process', leave=False):
            _check_memory(rows, workers)
            try:
                _check_images(row, conditions)
                workers[row] = stack.enter_context(Worker(_job(row, conditions)))
            except WorkerError as error:
                _leave_out(found, row, error)
        ceilings = {threads: stack.enter_context(Worker(
            {'measure': 'ceiling', 'threads': threads, 'device': conditions.device,
             'precisions': sorted({row.candidate.precision for row in workers
                                   if row.threads == threads} | {'fp32'})}))
            for threads in dict.fromkeys(row.threads for row in workers)}
        rates: dict[int, dict[str, float]] = {}
        seconds = conditions.seconds / conditions.rounds / max(1, len(workers))
        with progress_bar(None, 'measure', total=conditions.rounds * len(workers), unit='turn',
                          leave=False) as bar:
            for _ in range(conditions.rounds):
                for threads, ceiling in ceilings.items():
                    rates[threads] = ceiling.turn(0)
                for row, worker in list(workers.items()):
                    try:
                        answer = worker.turn(seconds)
                    except WorkerError as error:
                        _leave_out(found, row, error)
                        del workers[row]
                        continue
                    frames.setdefault(row, []).extend(answer['frames'])
                    memory[row] = answer['memory_mb']
                    bar.update()
    operations = _operations({row: memory[row] for row in workers})
    found.results = [_result(row, worker.ready, frames[row], memory[row], rates[row.threads],
                             operations[row.candidate.path, row.size])
                     for row, worker in workers.items()]
    if not found.results:
        raise UnivsegError('nothing can be measured: ' + first_few(
            [f'{row}: {why}' for row, why in found.left_out.items()], 1))
    return found


def _job(row: Row, conditions: Conditions) -> dict[str, Any]:
    of = row.candidate
    return {'measure': 'frames', 'threads': row.threads, 'path': str(of.path),
            'backend': of.backend, 'precision': of.precision, 'has_heads': of.has_heads,
            'random': of.random,
            'size': row.size, 'device': conditions.device, 'image': conditions.image,
            'domains': conditions.domains}


def _leave_out(found: Found, row: Row, error: WorkerError) -> None:
    log.warning('%s is left out: %s', row, error)
    found.left_out[str(row)] = str(error)


def _check_memory(rows: Sequence[Row], workers: dict[Row, Worker]) -> None:
    """Raise UnivsegError where no memory is left for one more process like the largest so far."""
    needed = MEGABYTE * max((each.ready['memory_mb'] for each in workers.values()), default=0)
    if needed > available_memory():
        raise UnivsegError(f'{len(rows)} rows, each in a process of its own, do not fit into '
                           f'memory: it is full with {len(workers)}; measure fewer models, '
                           'threads or sizes at once')


def _operations(memory: Mapping[Row, float]) -> dict[tuple[Path, Size], float | None]:
    """
    Return the operations of each encoder at each size, None where they cannot be counted.

    Each is counted in a process of its own, when the processes that measure have ended: a network
    in ONNX is run for it, without what saves memory. `memory` are the megabytes that these had.
    """
    found: dict[tuple[Path, Size], float | None] = {}
    for row, megabytes in memory.items():
        path, size = row.candidate.path, row.size
        if (path, size) in found:
            continue
        found[path, size] = None
        if COUNTING * MEGABYTE * megabytes > available_memory():
            log.info('%s: there is too little memory to count its operations', row)
            continue
        try:
            with Worker({'measure': 'operations', 'threads': row.threads, 'path': str(path),
                         'size': size}) as counted:
                found[path, size] = counted.ready['operations']
        except WorkerError as error:
            log.info('%s: its operations cannot be counted: %s', row, error)
    return found


def _check_images(row: Row, conditions: Conditions) -> None:
    """Raise WorkerError where not even the images, before any layer, fit into memory."""
    least = 3 * prod(conditions.image) + 3 * FLOAT * prod(row.size)
    if least > (there := available_memory()):
        raise WorkerError(f'its images alone take {least / 1e9:.3g} GB of memory, of which '
                          f'{there / 1e9:.3g} GB are left')


def _result(row: Row, ready: dict[str, Any], frames: list[list[float]], memory: float,
            rates: dict[str, float], operations: float | None) -> Result:
    whole, encoder, tail = (sorted(values) for values in zip(*frames, strict=True))
    median, encoder_ms = statistics.median(whole), statistics.median(encoder)
    ceiling = rates[row.candidate.precision]
    if ceiling < rates['fp32']:
        # PyTorch's product in this precision is not a fast one here: it is no ceiling.
        ceiling = 0
    gflop = None if operations is None else operations / 1e9
    return Result(
        row.candidate.model, row.candidate.backend, row.candidate.precision, ready['device'],
        row.threads, row.size[1], row.size[0], median, whole[-1 - len(whole) // 20],
        1000 / median, encoder_ms, statistics.median(tail) / median, ready['startup_s'], memory,
        gflop, ceiling or None,
        1000 * gflop / encoder_ms / ceiling if gflop is not None and ceiling else None,
        row.candidate.miou, len(whole))
