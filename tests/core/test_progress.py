"""Progress in a file and on a terminal."""

import fcntl
import io
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from univseg_core import progress
from univseg_core.progress import is_quiet, Lines, LogHandler, progress_bar, quiet, say


@pytest.fixture
def clock(monkeypatch):
    """Return a list of the time in seconds, for a test to change."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    return now


def told(capsys):
    """Return the lines on stderr; each is whole, and plain."""
    text = capsys.readouterr().err
    assert not re.search(r'[\r\x1b]', text)
    assert not text or text.endswith('\n')
    return text.splitlines()


def test_a_line_now_and_then_and_one_at_the_end(clock, capsys):
    for _ in progress_bar(range(600), 'tiny', unit='step'):
        clock[0] += 0.5  # five minutes in all
    lines = told(capsys)
    # After 30 s, 60 s … 270 s, and at the end, which is due, too.
    assert [int(re.search(r'(\d+)/600', line)[1]) for line in lines] == list(range(60, 601, 60))
    assert lines[0] == 'tiny:  10% 60/600 [00:30<04:30,  2.00step/s]'


def test_what_takes_no_time_has_its_last_line_alone(clock, capsys):
    assert list(progress_bar('abc', 'quick')) == ['a', 'b', 'c']
    (line,) = told(capsys)
    assert line.startswith('quick: 100% 3/3 ')
    assert list(progress_bar('abc', 'passing', leave=False)) == ['a', 'b', 'c']
    assert told(capsys) == []


def test_arrays_and_nothing_are_iterated_over(clock, capsys):
    assert list(progress_bar(np.arange(2), 'array')) == [0, 1]
    assert list(progress_bar([], 'none')) == []
    assert [line.split(' [')[0] for line in told(capsys)] == ['array: 100% 2/2', 'none: 0image']


def test_days_of_work_take_some_hundreds_of_lines(clock, capsys):
    bar = progress_bar(total=7 * 24 * 360, title='long', unit='step')
    for _ in range(7 * 24 * 360):
        clock[0] += 10
        bar.update()
    assert 500 < len(told(capsys)) < 1500  # at least one in ten minutes, which are 1008 in a week


def test_what_was_done_before_counts_but_took_no_time(clock, capsys):
    with progress_bar(total=100, initial=40, title='on', unit='step') as bar:
        clock[0] += 40
        bar.update(20)
        bar.set_postfix_str('loss 0.5')
        clock[0] += 40
        bar.update(20)
    assert told(capsys) == ['on:  60% 60/100 [00:40<01:20,  2.00s/step]',
                            'on:  80% 80/100 [01:20<00:40,  2.00s/step, loss 0.5]']


def test_an_unknown_total_and_an_error_end_with_a_line(clock, capsys):
    with pytest.raises(RuntimeError):
        for item in progress_bar(iter(range(9)), 'some', unit='frame'):
            if item == 4:
                raise RuntimeError
    assert told(capsys)[0].startswith('some: 4frame ')


def test_nothing_is_shown_within_quiet_or_where_disabled(capsys):
    with quiet(False):
        assert not is_quiet()
    with quiet():
        with quiet(False):
            assert is_quiet()
        assert list(progress_bar(range(3), 'tiny')) == [0, 1, 2]
        say('nothing')
    assert list(progress_bar(range(3), 'tiny', disable=True)) == [0, 1, 2]
    assert not is_quiet()
    assert told(capsys) == []
    say('a note')
    assert told(capsys) == ['a note']


PROGRAM = """
import logging
from univseg_core.progress import LogHandler, progress_bar
logging.basicConfig(level=logging.INFO, format='%(message)s', handlers=[LogHandler()])
for i in progress_bar(range(20), 'tiny', mininterval=0):
    if i == 10:
        logging.info('halfway')
"""


@pytest.mark.parametrize(('term', 'is_bar'), [('xterm', True), ('dumb', False)])
def test_a_terminal_has_a_bar_and_messages_above_it(term, is_bar):
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    with subprocess.Popen([sys.executable, '-c', PROGRAM], stderr=writing,
                          env=os.environ | {'TERM': term}) as process:
        os.close(writing)
        text = b''
        try:
            while part := os.read(reading, 1 << 16):
                text += part
        except OSError:  # Linux's end of a terminal
            pass
        os.close(reading)
    assert process.returncode == 0
    shown = text.decode().replace('\r\n', '\n')
    assert '20/20' in shown
    assert ('\r' in shown) == is_bar
    assert re.search(r'(^|[\r\n])halfway\n', shown)


def test_log_messages_are_lines_of_a_file(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', stream)
    logger = logging.Logger('any')
    logger.addHandler(LogHandler())
    with Lines(range(3), 'tiny', None):
        logger.warning('one')
    assert stream.getvalue().splitlines()[0] == 'one'
