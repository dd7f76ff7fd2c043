"""A process ends with the one that has started it, however that ends."""

import os
import signal

import pytest
from univseg_core.machine.ending import end_with_starter, STARTED_BY, status_in_words

pytestmark = pytest.mark.skipif(not hasattr(os, 'pidfd_open'), reason='Linux alone can do that')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_process_gets_its_signal_when_its_starter_is_killed(number):
    """What the starter has of the variable is its own affair: it goes no further."""
    reader, writer = os.pipe()
    starter = os.fork()
    if not starter:
        os.environ[STARTED_BY] = str(os.getpid())
        if not os.fork():
            signal.signal(signal.SIGTERM, lambda number, frame: (
                os.write(writer, b'saved'), os._exit(0)))
            end_with_starter(number)
            os.write(writer, b'left ' if STARTED_BY in os.environ else b'ready ')
        while True:
            signal.pause()
    os.close(writer)
    said = os.read(reader, 100)
    os.kill(starter, signal.SIGKILL)
    os.waitpid(starter, 0)
    while more := os.read(reader, 100):  # until the last of the two has ended
        said += more
    os.close(reader)
    assert said == (b'ready saved' if number == signal.SIGTERM else b'ready ')


def test_a_process_that_nobody_is_to_end_gets_none(monkeypatch):
    monkeypatch.delenv(STARTED_BY, raising=False)
    end_with_starter(signal.SIGKILL)


@pytest.mark.parametrize(('status', 'words'), [
    (0, 'exit status 0'), (3, 'exit status 3'), (-9, 'killed by SIGKILL'),
    (-250, 'killed by signal 250')])
def test_an_exit_status_is_told_in_words(status, words):
    assert status_in_words(status) == words
