"""Ctrl-C is noted, and taken when the work is ready for it."""

import signal
import threading

import pytest
from univseg_core.training.interrupts import deferred_interrupts


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_is_noted_and_a_second_interrupts(number):
    with pytest.raises(KeyboardInterrupt), deferred_interrupts() as interrupted:
        assert not interrupted.is_set()
        signal.raise_signal(number)
        assert interrupted.is_set()
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
