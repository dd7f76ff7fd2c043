"""Ctrl-C is noted, and taken when the work is ready for it."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

import pytest
from univseg_core.training.interrupts import (
    deferred_interrupts,
    ended_by_signals,
    GRACE,
    Interrupted,
)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_is_noted_and_a_second_interrupts(number):
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as interrupted:
        assert not interrupted.is_set()
        signal.raise_signal(number)
        assert interrupted.is_set()
        assert interrupted.number == number
        signal.raise_signal(number)


@pytest.mark.parametrize('error', [None, ValueError])
def test_afterwards_signals_are_taken_as_before(error):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with deferred_interrupts():
            assert signal.getsignal(signal.SIGINT) is not before[0]
            if error:
                raise error
    except ValueError:
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_nothing_changes():
    handlers, before = [], signal.getsignal(signal.SIGINT)

    def work():
        with deferred_interrupts() as interrupted:
            handlers.append((signal.getsignal(signal.SIGINT), interrupted.is_set()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [(before, False)]


@pytest.mark.parametrize(('number', 'status'), [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize('context', [ended_by_signals, deferred_interrupts])
def test_the_exit_status_tells_the_signal(context, number, status):
    with pytest.raises(Interrupted, match=number.name) as error, context():
        signal.raise_signal(number)
        signal.raise_signal(number)
    assert error.value.status == status


def test_what_can_be_interrupted_is_at_once_and_what_has_been_too():
    with deferred_interrupts() as interrupted:
        with pytest.raises(Interrupted, match='SIGTERM'), interrupted.at_once():
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError
        with pytest.raises(Interrupted, match='SIGTERM'), interrupted.at_once():
            raise AssertionError
    with deferred_interrupts() as interrupted:
        with interrupted.at_once():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert interrupted.is_set()


def test_a_part_of_what_can_be_interrupted_is_finished():
    done = []
    with deferred_interrupts() as interrupted, pytest.raises(Interrupted), \
            interrupted.at_once():
        with interrupted.later():
            signal.raise_signal(signal.SIGTERM)
            done.append('part')
        done.append('rest')
    assert done == ['part']


def test_long_work_has_more_time_to_end():
    with deferred_interrupts() as interrupted:
        interrupted.allow(0.1)
        assert interrupted.patience == GRACE
        interrupted.allow(30)
        interrupted.allow(20)
        assert interrupted.patience == 60


def test_after_a_program_that_signals_end_nothing_has_changed():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.active_count()
    with ended_by_signals():
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


FORKING = """
import os, signal, time
from univseg_core.training import interrupts
interrupts.GRACE = 0.1
with interrupts.ended_by_signals():
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, b'x')
            time.sleep(600)
        finally:
            os._exit(0)
    os.read(reader, 1)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    time.sleep(0.5)
    print('went on')
"""


def test_a_signal_to_a_forked_child_does_not_end_its_parent():
    """As a library's, which OpenVINO's telemetry has where there is no network."""
    done = subprocess.run(
        [sys.executable, '-c', FORKING], capture_output=True, text=True, check=False,
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])})
    assert (done.returncode, done.stdout, done.stderr) == (0, 'went on\n', '')


DEAF = """
import ctypes, os, signal, subprocess, sys
from univseg_core.machine import ending
from univseg_core.training import interrupts
interrupts.GRACE = 0.1
ending.further.append(subprocess.Popen(['sleep', '600'], stdout=-3, stderr=-3))
with interrupts.ended_by_signals():
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    while True:  # the second lock waits for ever; a signal may come before it does
        try:
            print(ending.further[0].pid, flush=True)
            lock(mutex)
            lock(mutex)
        except interrupts.Interrupted:
            pass
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_a_process_that_never_comes_back_to_python(number):
    """With it, by force, the processes that it has started."""
    process = subprocess.Popen(
        [sys.executable, '-c',
         f'import signal; signal.signal({int(number)}, signal.SIG_DFL)\n{DEAF}'],
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        further = int(process.stdout.readline())
        process.send_signal(number)
        _, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert f'univseg: {number.name}: something did not end in time: ended by force' in errors
    assert not Path(f'/proc/{further}').exists()
