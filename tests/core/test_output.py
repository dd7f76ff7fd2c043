"""What the `univseg` command prints, and where: streams, terminals, files, JSON."""

from argparse import Namespace
import io
import json
import os
import subprocess
import sys

import pytest
from univseg_core.cli import main
from univseg_core.commands.output import report
import yaml


@pytest.mark.parametrize('arguments', [['config', 'explain'], ['--version']])
def test_a_reader_that_stops_reading_gets_no_traceback(monkeypatch, capsys, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, 'w') as pipe:  # noqa: PTH123 - of a descriptor
        monkeypatch.setattr(sys, 'stdout', pipe)
        assert main(arguments) == 141
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('closed', ['stdout', 'stderr'])
@pytest.mark.parametrize('arguments', [['config', 'explain', 'training.steps', '--json'],
                                       ['info', 'none']])
def test_a_stream_that_is_closed_leads_nowhere(monkeypatch, capsys, closed, arguments):
    """Not into the other one, as Python has it: `2>&-` is no part of the JSON."""
    monkeypatch.setattr(sys, closed, None)
    status = main(arguments)
    assert status == (arguments[0] == 'info')
    other = capsys.readouterr()
    if closed == 'stderr' and not status:
        assert len(json.loads(other.out)) == 1
    elif closed == 'stderr':
        assert other.out == ''
    else:
        assert other.out == ''
        assert bool(other.err) == status


def test_json_has_no_word_for_what_is_no_number(capsys):
    values = {'a': [float('nan'), {'b': float('inf')}, 1.5, True, None], 'c': (-float('inf'), 'x')}
    report(Namespace(json=True), values, None)
    assert json.loads(capsys.readouterr().out) == {'a': [None, {'b': None}, 1.5, True, None],
                                                   'c': [None, 'x']}


@pytest.fixture
def run_printing_in(monkeypatch):
    """Return a function that runs `univseg` on streams of an encoding: status, output, errors."""
    def run(encoding, *arguments):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
        for name, stream in zip(('stdout', 'stderr'), streams, strict=True):
            monkeypatch.setattr(sys, name, stream)
        status = main(list(arguments))
        for stream in streams:
            stream.flush()
        return status, *(stream.buffer.getvalue() for stream in streams)
    return run


def test_on_an_ascii_terminal_texts_are_spelt_out(run_printing_in):
    status, output, _ = run_printing_in('ascii', 'config', 'explain', 'training.steps')
    assert status == 0
    assert b'int >= 1' in output
    status, _, errors = run_printing_in('ascii', 'config', 'explain', 'training.größe')
    assert status == 1
    assert errors.startswith(b'univseg config: training.grosse: unknown key')


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1'])
def test_what_may_become_a_file_loses_nothing(run_printing_in, values, write_config, encoding):
    outdoor = values['domains']['outdoor']
    outdoor['classes'] = ['straße', '天', *outdoor['classes'][2:]]
    config = str(write_config(values))
    status, output, _ = run_printing_in(encoding, 'config', 'show', config)
    assert status == 0
    shown = yaml.safe_load(output.decode('ascii'))
    assert shown['domains']['outdoor']['classes'] == outdoor['classes']
    for each in (encoding, 'utf-8'):
        status, output, _ = run_printing_in(each, 'config', 'show', config, '--json')
        assert json.loads(output.decode(each)) == shown
    assert 'straße' in output.decode()


def test_a_name_that_is_no_text_is_told(run_printing_in):
    """Linux's names are bytes; this one is no UTF-8."""
    assert run_printing_in('utf-8', 'info', os.fsdecode(b'no\xff.univseg')) == (
        1, b'', b'univseg info: no\\xff.univseg: no such file or folder\n')


def test_quiet_leaves_results_and_errors(tmp_path, capsys):
    worlds = ('--train', '2', '--validation', '1')
    assert main(['scenes', str(tmp_path / 'a'), *worlds]) == 0
    assert capsys.readouterr().err.startswith('scenes: 100% 6/6')
    for place in (('--quiet', 'scenes'), ('scenes', '-q')):
        assert main([*place, str(tmp_path / '-'.join(place)), *worlds]) == 0
        assert capsys.readouterr() == ('', '')
    assert main(['scenes', '--quiet', str(tmp_path / 'a'), *worlds]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('univseg scenes: ')
    assert 'is already there' in line
    assert main(['scenes', str(tmp_path / 'b'), *worlds, '--json', '--labelled', '1']) == 0
    assert json.loads(capsys.readouterr().out) == {str(tmp_path / 'b' / world): {
        'train': 1, 'unlabelled': 1, 'validation': 1} for world in ('outdoor', 'indoor')}


def test_verbose_tells_what_led_to_an_error(tmp_path):
    (tmp_path / 'outdoor').mkdir()
    result = subprocess.run([sys.executable, '-m', 'univseg_core', 'scenes', tmp_path, '-v'],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1].startswith('univseg scenes: ')
