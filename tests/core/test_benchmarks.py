"""The benchmarks: that they start, and that the one of killed trainings sees what is not equal."""

from importlib.util import module_from_spec, spec_from_file_location
import json
from pathlib import Path
from runpy import run_path
import shutil
import subprocess
import sys

import pytest

FOLDER = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture(scope='module')
def kill_and_resume():
    """Return the benchmark of that name as a module."""
    spec = spec_from_file_location('kill_and_resume', FOLDER / 'kill_and_resume.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(finished_run, tmp_path):
    """Return the folder of a finished training, and that of its copy, which may be changed."""
    shutil.copytree(finished_run[0], tmp_path / 'copy')
    return finished_run[0], tmp_path / 'copy'


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.py')), ids=lambda path: path.stem)
def test_help(path, tmp_path, monkeypatch, capsys):
    if 'import rclpy' in path.read_text(encoding='utf-8'):
        pytest.importorskip('rclpy', reason='needs ROS 2 (rclpy)')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('COLUMNS', '100')
    monkeypatch.syspath_prepend(FOLDER)  # as of a program that is started
    monkeypatch.setattr(sys, 'argv', [str(path), '--help'])
    with pytest.raises(SystemExit) as end:
        run_path(str(path), run_name='__main__')
    assert not end.value.code
    text = capsys.readouterr().out
    assert text.startswith(f'usage: {path.name}')
    assert '(default: ' in text
    assert not list(tmp_path.iterdir())


def test_the_benchmark_of_gpus_starts_on_a_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['gpu.py', '--device', 'cpu', '--quick', '--json',
                                      str(tmp_path / 'gpu.json')])
    run_path(str(FOLDER / 'gpu.py'), run_name='__main__')
    row, = json.loads((tmp_path / 'gpu.json').read_text())['rows']
    assert row['frame_ms'] > 0
    assert row['encoder_rate'] > 0
    assert row['ceiling'] > 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    assert len(lines) == 3
    assert len({line.count('|') for line in lines}) == 1
    assert lines[2].startswith('| light | 8 | eager | fp32 | ')


def test_equal_trainings_differ_in_nothing(kill_and_resume, copy):
    one, other = copy
    (other / 'curves.png').write_bytes(b'times')
    (other / 'tensorboard' / 'more').write_bytes(b'times')
    assert kill_and_resume.differences(one, other) == []


@pytest.mark.parametrize('name', [
    'model.univseg', 'best.univseg', 'label_embeddings.safetensors', 'evaluation.json',
    'validation.csv', 'supervised/indoor/model.univseg'])
def test_one_changed_bit_is_a_difference(kill_and_resume, copy, name):
    one, other = copy
    data = bytearray((other / name).read_bytes())
    data[-2] ^= 1
    (other / name).write_bytes(data)
    assert kill_and_resume.differences(one, other) == [name]


def test_a_file_too_few_or_too_many_is_a_difference(kill_and_resume, copy):
    one, other = copy
    (other / 'best.univseg').unlink()
    (other / '.model.unfinished-x.univseg').touch()
    assert kill_and_resume.differences(one, other) == [
        '.model.unfinished-x.univseg', 'best.univseg']


@pytest.mark.parametrize(('column', 'expected'), [
    ('loss', ['log.csv']), ('learning_rate', ['log.csv']), ('data_wait', []),
    ('seconds_per_step', [])])
def test_losses_count_but_times_do_not(kill_and_resume, copy, column, expected):
    one, other = copy
    header, *rows, last = (other / 'log.csv').read_text().splitlines()
    cells = last.split(',')
    cells[header.split(',').index(column)] = '12.5'
    (other / 'log.csv').write_text('\n'.join([header, *rows, ','.join(cells), '']))
    assert kill_and_resume.differences(one, other) == expected


def test_a_process_is_killed_in_its_midst(kill_and_resume):
    def sleeping(seconds):
        return subprocess.Popen([sys.executable, '-c', f'import time; time.sleep({seconds})'])

    assert kill_and_resume.killed(sleeping(600), 0.1)
    assert not kill_and_resume.killed(sleeping(0), 600)


def test_a_training_that_fails_is_told(kill_and_resume, tmp_path):
    run = tmp_path / 'run'
    kill_and_resume.printed(run).write_text('no such folder')
    process = subprocess.Popen([sys.executable, '-c', 'raise SystemExit(1)', '--run', run])
    with pytest.raises(SystemExit, match='no such folder'):
        kill_and_resume.finish(process)


def test_what_a_killed_training_was_doing(kill_and_resume, copy):
    _, run = copy
    assert kill_and_resume.doing(run, True) == 'start-up'
    assert kill_and_resume.doing(run, False) == 'joint training, after checkpoint 30'
    (run / '.best.unfinished-x.univseg').touch()
    assert kill_and_resume.doing(run, False).endswith(', writing best.univseg')
    (run / 'label_embeddings.safetensors').unlink()
    assert kill_and_resume.doing(run, False) == 'label embeddings'
    shutil.rmtree(run / 'supervised' / 'indoor')
    assert kill_and_resume.doing(run, False) == 'supervised-only indoor, after checkpoint 0'
    (run / 'config.yaml').unlink()
    assert kill_and_resume.doing(run, False) == 'start-up'
