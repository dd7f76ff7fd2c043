"""Colours are for people at a terminal: help, errors and warnings, and never in a file."""

from contextlib import suppress
import io
import logging
import os
import pty
import sys

import pytest
from univseg_core.cli import main
from univseg_core.colours import has_colours, painted, with_headings
from univseg_core.progress import LogHandler

RED, YELLOW, BOLD, END = '\033[31m', '\033[33m', '\033[1m', '\033[0m'


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Have a terminal with colours, of which nobody has said anything."""
    monkeypatch.setenv('TERM', 'xterm-256color')
    for name in ('NO_COLOR', 'FORCE_COLOR'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(('stream', 'environ', 'coloured'), [
    (Terminal, {}, True), (io.StringIO, {}, False),
    (Terminal, {'TERM': 'dumb'}, False), (Terminal, {'TERM': ''}, False),
    (Terminal, {'NO_COLOR': '1'}, False), (Terminal, {'NO_COLOR': ''}, True),
    (io.StringIO, {'FORCE_COLOR': '1'}, True), (io.StringIO, {'FORCE_COLOR': ''}, False),
    (Terminal, {'FORCE_COLOR': '1', 'NO_COLOR': '1'}, False)])
def test_who_gets_colours(monkeypatch, stream, environ, coloured):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert has_colours(stream()) is coloured
    assert painted('no', 'bad', stream()) == (f'{RED}no{END}' if coloured else 'no')


def test_headings_are_lines_that_end_in_a_colon():
    text = 'usage: univseg [-h]\n\nA model. Its keys:\n\nto begin with:\n  options: none\n'
    assert with_headings(text, Terminal()) == (
        f'{BOLD}usage:{END} univseg [-h]\n\nA model. Its keys:\n\n{BOLD}to begin with:{END}\n'
        '  options: none\n')
    assert with_headings(text, io.StringIO()) == text


def printed(monkeypatch, *arguments):
    """Return what a command prints on a terminal."""
    reading, writing = pty.openpty()
    # Before anything is read of it, a terminal holds 4 KB.
    with open(writing, 'w', buffering=1) as terminal:  # noqa: PTH123 - of a descriptor
        for name in ('stdout', 'stderr'):
            monkeypatch.setattr(sys, name, terminal)
        with suppress(SystemExit):
            main(arguments)
        monkeypatch.undo()
        text = os.read(reading, 10_000).decode().replace('\r\n', '\n')
    os.close(reading)
    return text


def test_a_terminal_gets_headings_in_bold_and_errors_in_red(monkeypatch):
    help_text = printed(monkeypatch, 'completion', '--help')
    assert help_text.startswith(f'{BOLD}usage:{END} univseg completion')
    assert f'\n{BOLD}examples:{END}\n' in help_text
    assert printed(monkeypatch, 'info', 'none').startswith(f'{RED}univseg info:{END} none')
    error = printed(monkeypatch, 'completion', 'cmd.exe').splitlines()[-1]
    assert error.startswith(f'{RED}univseg completion: error:{END} argument')


def test_a_pipe_gets_the_same_without_colours(capsys):
    for arguments in (['completion', '--help'], ['info', 'none'], ['completion', 'cmd.exe']):
        with suppress(SystemExit):
            main(arguments)
        both = capsys.readouterr()
        assert both.out + both.err
        assert '\033' not in both.out + both.err


def test_warnings_are_yellow_and_errors_red_but_not_what_is_only_said():
    for stream, marks in ((Terminal(), (YELLOW, RED, END)), (io.StringIO(), ('', '', ''))):
        handler = LogHandler(stream)
        for level in (logging.INFO, logging.WARNING, logging.ERROR):
            handler.handle(logging.LogRecord('a', level, 'a.py', 1, 'so %s', ('it is',), None))
        warning, error, end = marks
        assert stream.getvalue() == (f'so it is\n{warning}so it is{end}\n'
                                     f'{error}so it is{end}\n')
