"""The ways in which a training may end: what happens, and what should come of it."""

from dataclasses import dataclass
import signal


@dataclass(frozen=True)
class Kind:
    """
    A way in which a training ends.

    The name of what happens `within` its processes, or which of them (`first`, `further`,
    `worker`, `all`) get which `signals`; the exit status, and a text that names the cause.
    """

    name: str
    status: int
    cause: str
    within: str = ''
    to: str = ''
    signals: tuple[int, ...] = ()
    workers: bool = False
    further: bool = False


def by_signal(number: int, to: str, times: int = 1) -> Kind:
    """Return the end by a signal that the training takes and tells of."""
    name = signal.Signals(number).name
    return Kind(f'{name}{" twice" * (times > 1)} to {to}', 128 + number,
                name if times == 1 else '', to=to, signals=times * (number,))


KINDS = (
    by_signal(signal.SIGTERM, 'first'), by_signal(signal.SIGTERM, 'all'),
    by_signal(signal.SIGINT, 'all'), by_signal(signal.SIGINT, 'all', 2),
    by_signal(signal.SIGHUP, 'all'),
    Kind('kill -9 first', -signal.SIGKILL, '', to='first', signals=(signal.SIGKILL,)),
    Kind('kill -9 further', 1, 'SIGKILL', to='further', signals=(signal.SIGKILL,), further=True),
    Kind('SIGTERM further', 143, 'SIGTERM', to='further', signals=(signal.SIGTERM,),
         further=True),
    Kind('further stopped, SIGTERM', 143, 'SIGTERM', within='stop further', to='first',
         signals=(signal.SIGTERM,), further=True),
    Kind('kill -9 worker', 1, 'Killed', to='worker', signals=(signal.SIGKILL,), workers=True),
    Kind('segmentation fault of worker', 1, 'Segmentation fault', to='worker',
         signals=(signal.SIGSEGV,), workers=True),
    Kind('worker stopped, SIGTERM', 143, 'SIGTERM', within='stop worker', to='first',
         signals=(signal.SIGTERM,), workers=True),
    Kind('error in worker', 1, 'a fault of the benchmark', within='error in worker',
         workers=True),
    Kind('exit of worker', 1, 'exited unexpectedly', within='exit of worker', workers=True),
    Kind('error in step', 1, 'a fault of the benchmark', within='error in step'),
    Kind('error in step of further', 1, 'a fault of the benchmark', within='error in further',
         further=True),
    Kind('error where a row is logged', 1, 'a fault of the benchmark', within='error in log'),
    Kind('sys.exit in step', 7, '', within='exit in step'),
    Kind('os._exit in step', 7, '', within='os exit in step'),
    Kind('os._exit in step of further', 1, 'exit status 7', within='os exit in further',
         further=True),
    Kind('out of memory', 1, 'out of memory', within='memory'),
    Kind('full disk', 1, 'File too large|too large', within='disk'),
    Kind('SIGTERM in validation', 143, 'SIGTERM', within='slow validation', to='first',
         signals=(signal.SIGTERM,)),
    Kind('SIGTERM in start-up', 143, '', within='slow start', to='first',
         signals=(signal.SIGTERM,)),
    Kind('SIGTERM in a library', 143, 'SIGTERM', within='deaf', to='first',
         signals=(signal.SIGTERM,)),
    Kind('/dev/shm full', 1, 'shm-size', within='shm', workers=True),
)
