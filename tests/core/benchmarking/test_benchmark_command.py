"""`univseg benchmark`: what it reports, and says of what cannot be measured."""

from contextlib import nullcontext
from importlib import import_module
import json

from command_lines import assert_fails
import pytest
from univseg_core.benchmarking import candidates, rows
from univseg_core.benchmarking.processes import Worker
from univseg_core.cli import main
from univseg_core.commands import benchmarking
from univseg_core.inference.backends import installed
from univseg_core.machine.processors import cpu_cores
from univseg_core.pictures.images import read_image

SIZE = (24, 40)


def worker_of_frames(job):
    """Return a process that measures frames; what else a job is, this process does, at once."""
    if job['measure'] == 'frames':
        return Worker(job)
    return nullcontext(import_module(f'univseg_core.benchmarking.{job["measure"]}').begin(job))


def test_both_formats_in_processes_of_their_own(model_path, exported, tmp_path, capsys,
                                                monkeypatch):
    pytest.importorskip('onnxruntime')
    monkeypatch.setattr(rows, 'Worker', worker_of_frames)
    monkeypatch.setattr(candidates, 'is_good_at_bf16', lambda: False)
    table, plot = tmp_path / 'table.md', tmp_path / 'plot.png'
    assert main(['benchmark', str(model_path), str(exported()), '--size', '64x48', '--image',
                 '96x64', '--threads', '1', '--rounds', '1', '--seconds', '0', '--json', '--out',
                 str(table), '--plot', str(plot)]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told['image'] == [64, 96]
    assert not told['left_out']
    measured = {(row['model'], row['backend'], row['precision']) for row in told['rows']}
    assert measured >= {('light.univseg', 'torch', 'fp32'),
                        *(('one.onnx', name, 'fp32') for name in installed(True))}
    for row in told['rows']:
        assert (row['width'], row['height'], row['threads'], row['device']) == (64, 48, 1, 'cpu')
        assert row['frames'] == 1
        assert 0 < row['encoder_ms'] < row['median_ms'] == row['p95_ms']
        assert row['frames_per_second'] == pytest.approx(1000 / row['median_ms'])
        assert 0 < row['tail_share'] < 1
        assert row['startup_s'] > 0.05  # Python alone takes that
        assert row['memory_mb'] > (150 if row['backend'] == 'torch' else 20)
        assert row['ceiling_share'] == pytest.approx(
            1000 * row['gflop'] / row['encoder_ms'] / row['ceiling_gflops'])
        if row['model'] == 'one.onnx':  # 6·8 cells
            assert row['gflop'] == pytest.approx(2 * 48 * (4 * 3 * 64 + 4 * 9) / 1e9)
    assert '| light.univseg | torch' in table.read_text()
    assert read_image(plot).std() > 0


def test_what_cannot_be_is_said_before_anything_is_measured(exported, capsys, monkeypatch):
    monkeypatch.setattr(rows, 'Worker', None)
    assert_fails(capsys, ['benchmark', exported(SIZE), '--plot', 'a.jpg'],
                 'a.jpg: expected a name that ends in .png')


def test_a_network_for_one_size_is_left_out_at_others(exported, capsys, monkeypatch):
    """And measured at its own, beside them; all by processes, as the command has them."""
    name, = installed(True)[:1] or pytest.skip('needs ONNX Runtime or OpenVINO')
    monkeypatch.setattr(candidates, 'installed', lambda exported: [name])
    monkeypatch.setattr(candidates, 'is_good_at_bf16', lambda: False)
    assert main(['benchmark', str(exported(SIZE)), '--size', '40x24', '64x32', '--image', '96x64',
                 '--threads', '1', '--rounds', '1', '--seconds', '0', '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert {(row['width'], row['height']) for row in told['rows']} == {(40, 24)}
    why = told['left_out'][f'one.onnx by {name} in fp32, 64×32, 1 thread']
    assert 'exported for images that are seen at 40×24 alone' in why


def test_files_that_are_no_models(tmp_path, capsys):
    path = tmp_path / 'a.onnx'
    assert_fails(capsys, ['benchmark', path], f'{path}: no such model file')
    path.write_text('nothing')
    assert_fails(capsys, ['benchmark', path], f'{path}: ')
    assert_fails(capsys, ['benchmark', tmp_path], 'not a finished run: it has no model.univseg')


def test_without_a_backend_pip_lines_are_told(exported, capsys, monkeypatch):
    monkeypatch.setattr(candidates, 'installed', lambda exported: [])
    assert_fails(capsys, ['benchmark', exported()], 'none of what runs it is installed: ',
                 'pip install onnxruntime or pip install openvino')


def test_more_threads_than_cores_are_as_many_as_there_are(caplog):
    cores = cpu_cores()
    assert benchmarking._threads([]) == sorted({1, cores})
    assert benchmarking._threads([cores + 1, 1, cores]) == ([cores, 1] if cores > 1 else [1])
    assert f'--threads {cores + 1}: this process may run on {cores} cores' in caplog.text


@pytest.mark.parametrize('text', ['0', 'two', '-1'])
def test_numbers_of_domains(text, capsys):
    with pytest.raises(SystemExit):
        main(['benchmark', 'a.onnx', '--domains', text])
    assert 'expected a whole number, 1 or more' in capsys.readouterr().err
