"""The processes that measure, seen from the one that asks them in turn."""

from contextlib import suppress
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any

from univseg_core.errors import shortened, UnivsegError
from univseg_core.machine.ending import kill_all, status_in_words

PACKAGES = Path(__file__).parents[2]
"""The folder that this package was imported from."""


class WorkerError(UnivsegError):
    """A process that cannot measure what it was told to, or that has ended."""


class Worker:
    """
    A process of `worker`, which ends with the block that this is entered for.

    `ready` is what it said when it was. Raises WorkerError where it cannot do its job.
    """

    def __init__(self, job: dict[str, Any]):
        paths = [str(PACKAGES), *filter(None, [os.environ.get('PYTHONPATH')])]
        self._said = tempfile.TemporaryFile('w+', encoding='utf-8', errors='replace')  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'univseg_core.benchmarking.worker',
             json.dumps({**job, 'began': time.time()})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)})
        try:
            self.ready = self._answer()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> 'Worker':
        return self

    def __exit__(self, *unused: object) -> None:
        kill_all([self._process])
        for stream in (self._process.stdin, self._process.stdout, self._said):
            with suppress(OSError):  # of what it had not read yet
                stream.close()  # type: ignore[union-attr]

    def turn(self, seconds: float) -> dict[str, Any]:
        """Have it measure for such a time; return what it found. Raises WorkerError."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: no answer comes either
            self._process.stdin.write(f'{seconds}\n')
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        """Return its next line. Raises WorkerError with what it says, or how it ended."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer = json.loads(line)
            if 'error' in answer:
                raise WorkerError(answer['error'])
            return answer
        status = status_in_words(self._process.wait())
        self._said.seek(0)
        *_, last = ['', *filter(None, map(str.strip, self._said))]
        raise WorkerError(f'the process that measures it ended ({status})'
                          + (f': {shortened(last)}' if last else ''))
