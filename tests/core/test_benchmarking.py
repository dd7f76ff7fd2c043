"""What models cost here: rows in turn, whole frames, operations, the machine's ceiling."""

import json

from command_lines import assert_fails
import numpy as np
import pytest
import torch
from torch import nn
from univseg_core.benchmarking import candidates, ceiling, frames, networks, rows
from univseg_core.benchmarking.candidates import of_file
from univseg_core.benchmarking.operations import operations_of
from univseg_core.benchmarking.peers import PeerError, PeerNetwork
from univseg_core.benchmarking.processes import Worker, WorkerError
from univseg_core.benchmarking.rows import Candidate, Conditions, Found, measure, Result, Row
from univseg_core.benchmarking.table import as_markdown
from univseg_core.cli import main
from univseg_core.commands import benchmarking
from univseg_core.domains import Domain
from univseg_core.exporting.network import ExportError
from univseg_core.inference.backends import installed
from univseg_core.machine.processors import cpu_cores
from univseg_core.models.exported_file import Export, ExportedModel, load_exported, save_exported
from univseg_core.models.heads import Heads, LinearMap
from univseg_core.models.model_card import ModelCard, ModelSpec
from univseg_core.models.model_file import load_model, save_model
from univseg_core.models.normalisation import IMAGENET
from univseg_core.models.universal import UniversalSegmenter
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.speed import draw_speeds

CLASSES = ('wall', 'floor', 'door', 'chair')
SIZE = (24, 40)


def one_convolution():
    """Return an ONNX model: patches of 8×8 pixels → 4 features, then 3×3 for each one alone."""
    onnx = pytest.importorskip('onnx')
    helper, to = onnx.helper, onnx.numpy_helper.from_array
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [helper.make_node('Cast', ['image'], ['floats'], to=onnx.TensorProto.FLOAT),
         helper.make_node('Transpose', ['floats'], ['planes'], perm=[2, 0, 1]),
         helper.make_node('Unsqueeze', ['planes', 'axes'], ['batch']),
         helper.make_node('Conv', ['batch', 'patches'], ['cells'], strides=[8, 8],
                          kernel_shape=[8, 8], auto_pad='SAME_UPPER'),
         helper.make_node('Conv', ['cells', 'each'], ['found'], group=4, kernel_shape=[3, 3],
                          pads=[1, 1, 1, 1]),
         helper.make_node('Transpose', ['found'], ['features'], perm=[0, 2, 3, 1]),
         helper.make_node('MatMul', ['features', 'head'], ['logits_place'])],
        'network',
        [helper.make_tensor_value_info('image', onnx.TensorProto.UINT8, ['h', 'w', 3])],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, None, 4])
         for name in ('features', 'logits_place')],
        [to(random.normal(size=(4, 3, 8, 8)).astype(np.float32), 'patches'),
         to(random.normal(size=(4, 1, 3, 3)).astype(np.float32), 'each'),
         to(np.eye(4, dtype=np.float32), 'head'), to(np.array([0]), 'axes')])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)],
                             ir_version=8).SerializeToString()


@pytest.fixture
def exported(tmp_path):
    """Return a function that writes an exported model, whose head is the identity."""
    def write(size=None, miou=None):
        same = LinearMap(np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
        domain = Domain.create('place', CLASSES)
        model = ExportedModel(
            tmp_path / 'one.onnx', one_convolution(), Export(size=size),
            ModelSpec('one', embedding_dim=4), IMAGENET, 4,
            Heads({'place': same}, same, {'place': np.zeros((4, 4), np.float32)}),
            {'place': domain})
        save_exported(model.path, model, ModelCard(miou=miou or {}))
        return model.path
    return write


@pytest.fixture
def model_path(tmp_path):
    torch.manual_seed(0)
    model = UniversalSegmenter(ModelSpec('light', width=0.1, embedding_dim=4),
                               [Domain.create('place', CLASSES), Domain.create('hall', CLASSES)])
    save_model(tmp_path / 'light.univseg', model, ModelCard(64, training={'steps': 100000}))
    return tmp_path / 'light.univseg'


# --- the command ---

def test_both_formats_in_processes_of_their_own(model_path, exported, tmp_path, capsys,
                                                monkeypatch):
    pytest.importorskip('onnxruntime')
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


@pytest.mark.parametrize(('options', 'messages'), [
    (['--plot', 'a.jpg'], ('a.jpg: expected a name that ends in .png',)),
    (['--size', '64x32'], ('one.onnx: size 64×32: it was exported for 40×24 alone',))])
def test_what_cannot_be_is_said_before_anything_is_measured(exported, capsys, monkeypatch,
                                                            options, messages):
    monkeypatch.setattr(rows, 'Worker', None)
    assert_fails(capsys, ['benchmark', exported(SIZE), *options], *messages)


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


# --- what is compared ---

def test_a_file_with_all_that_runs_it(exported, monkeypatch):
    path = exported(miou={'place': 0.25, 'hall': 0.75})
    for amx in (False, True):
        monkeypatch.setattr(candidates, 'installed', lambda exported: ['onnxruntime', 'openvino'])
        monkeypatch.setattr(candidates, 'is_good_at_bf16', lambda amx=amx: amx)
        found = list(of_file(path, 'one', [], (720, 1280), 'cpu'))
        assert [(each.backend, each.precision) for each in found] == [
            ('onnxruntime', 'fp32'), ('openvino', 'fp32'),
            *([('openvino', 'bf16')] if amx else [])]
        # No size is its own: the longest side is 480, in the shape of the image.
        assert {(*each.sizes, each.miou) for each in found} == {((270, 480), 0.5)}


def test_own_sizes(exported, model_path):
    assert list(next(of_file(exported(SIZE), 'one', [], (720, 1280), 'cpu')).sizes) == [SIZE]
    assert list(next(of_file(model_path, 'light', [], (50, 100), 'cpu')).sizes) == [(32, 64)]


def test_encoders_that_cannot_be_exported_are_measured_as_they_are(tmp_path, monkeypatch, caplog):
    def fails(model, size):
        raise ExportError('no onnxscript')
    monkeypatch.setattr(networks, 'encoder_to_onnx', fails)
    path, = networks.new_models(['light'], 3, tmp_path)
    assert list(load_model(path)[0].domains) == ['place0', 'place1', 'place2']
    assert 'light: measured in PyTorch alone: no onnxscript' in caplog.text


def test_encoders_are_exported_as_models_are(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, 'encoder_to_onnx', lambda model, size: one_convolution())
    model, exported = networks.new_models(['light'], 1, tmp_path)
    assert (model.name, exported.name) == ('light.univseg', 'light.onnx')
    assert load_exported(exported)[0].heads.heads['place0'].weight.tolist() == (
        load_model(model)[0].as_arrays().heads['place0'].weight.tolist())


def test_peers_are_exported_and_those_that_are_missing_left_out(tmp_path, monkeypatch, caplog):
    class Peer:
        def build(self, classes):
            return PeerNetwork(nn.Identity(), nn.Conv2d(3, classes, 8, 8), stride=8)

    class Missing:
        def build(self, classes):
            raise PeerError('smp cannot be imported: pip install smp')

    built = []
    monkeypatch.setattr(networks, 'PEERS', {'there': Peer(), 'missing': Missing()})
    monkeypatch.setattr(networks, 'to_onnx', lambda *values: built.append(values) or b'\x08\x08')
    (path, name, size), = networks.peer_files([SIZE], tmp_path)
    assert (name, size) == ('there', SIZE)
    model, _ = load_exported(path)
    assert (model.stride, model.export.size, model.channels) == (8, SIZE, networks.CLASSES)
    (network, called, normalisation, seen), = built
    assert (called, normalisation, seen) == ('there', IMAGENET, SIZE)
    assert not network.training
    assert 'missing is left out: smp cannot be imported: pip install smp' in caplog.text


# --- operations ---

def test_operations_of_a_network_in_onnx(exported):
    pytest.importorskip('onnxruntime')
    model, _ = load_exported(exported())
    # 3·5 cells: 4 features of 3·8·8 values, then of 3·3 each; the head is no part of the encoder.
    assert operations_of(model, SIZE) == 2 * 15 * (4 * 3 * 64 + 4 * 9)
    assert operations_of(model, (25, 40)) == 2 * 20 * (4 * 3 * 64 + 4 * 9)


def test_operations_of_a_network_of_torch(model_path):
    model, _ = load_model(model_path)
    model.encoder = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Conv2d(4, 4, 3, padding=1, groups=4))
    assert operations_of(model, SIZE) == 2 * 15 * (4 * 3 * 64 + 4 * 9)


def test_operations_that_cannot_be_told(exported, monkeypatch):
    model, _ = load_exported(exported())
    monkeypatch.setitem(__import__('sys').modules, 'onnxruntime', None)
    assert operations_of(model, SIZE) is None


# --- a worker's own ---

def test_the_ceiling_is_the_best_of_all_turns(monkeypatch):
    monkeypatch.setattr(ceiling, 'LARGEST', 512)
    measured = ceiling.begin({'precisions': ['fp32', 'int8'], 'device': 'cpu'})
    first = dict(measured.turn(0))
    assert first['fp32'] > 0.1
    assert first['int8'] >= 0
    second = measured.turn(0)
    assert all(second[name] >= first[name] for name in first)


def test_a_large_product_counts_two_operations_for_each_pair(monkeypatch):
    monkeypatch.setattr(ceiling, 'LARGEST', ceiling.SMALLEST)
    monkeypatch.setattr(ceiling, '_shortest', lambda product, times: 0.5)
    assert ceiling.begin({'precisions': ['fp32'], 'device': 'cpu'}).turn(0) == {
        'fp32': 2 * 256**3 / 0.5 / 1e9}


def test_a_frame_is_whole_and_seen_at_the_size_that_is_asked_for(exported):
    name, = installed(True)[:1] or pytest.skip('needs ONNX Runtime or OpenVINO')
    segmenter = frames.MeasuredSegmenter.load(exported(), backend=name, precision='fp32')
    segmenter.seen_at = SIZE
    image = frames.picture(50, 70)
    by_head, = segmenter.masks(image, ['place'])
    assert by_head.shape == (50, 70)
    assert segmenter.encode(image).features.shape == (4, 3, 5)
    assert segmenter.timed.seconds.keys() == {'encoder', 'tail'}
    segmenter.has_heads = False  # the head is the identity
    without, = segmenter.masks(image, ['place'])
    assert (without == by_head).all()
    assert len(np.unique(by_head)) > 1


def test_too_many_domains(exported):
    name, = installed(True)[:1] or pytest.skip('needs ONNX Runtime or OpenVINO')
    job = {'path': str(exported()), 'backend': name, 'device': 'cpu', 'precision': 'fp32',
           'size': SIZE, 'image': SIZE, 'domains': 2, 'has_heads': True, 'began': 0}
    with pytest.raises(ValueError, match=r'one\.onnx: 2 domains: it has 1'):
        frames.begin(job)


def test_a_process_that_ends_says_why():
    with pytest.raises(WorkerError, match=r'ended \(exit status 1\): AssertionError'):
        Worker({'measure': 'nonsense', 'threads': 1})


# --- rows in turn ---

class FakeWorker:
    """Answers as it is told to, and notes its turns."""

    answers, turns = {}, []

    def __init__(self, job):
        if job['measure'] == 'ceiling':
            self.name, self.ready = 'ceiling', {}
            return
        self.name = job['backend']
        if self.name == 'refuses':
            raise WorkerError('no such device')
        self.ready = {'startup_s': 1.5, 'device': 'cpu', 'memory_mb': 1.0}

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass

    def turn(self, seconds):
        self.turns.append((self.name, seconds))
        answer = self.answers[self.name].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(rows, 'Worker', FakeWorker)
    monkeypatch.setattr(FakeWorker, 'turns', [])
    return FakeWorker


def row(backend, precision='fp32', operations=2e6):
    return Row(Candidate('m', 'm.onnx', backend, precision, {SIZE: operations}), 1, SIZE)


def turn(*times, memory=3.0):
    return {'frames': [[time, time / 2, time / 4] for time in times], 'memory_mb': memory}


def test_rows_take_turns_and_medians_are_of_all(fake, monkeypatch):
    monkeypatch.setattr(fake, 'answers', {
        'ceiling': [{'fp32': 1.0, 'int8': 0.5}, {'fp32': 4.0, 'int8': 0.5}],
        'a': [turn(1, 9), turn(2)], 'b': [turn(8), turn(4, memory=7.0)],
        'c': [turn(1), WorkerError('killed')]})
    found = measure([row('a'), row('refuses'), row('b', 'int8'), row('c', operations=None)],
                    Conditions(rounds=2, seconds=12))
    assert fake.turns == [(name, 0 if name == 'ceiling' else 2) for name in (
        'ceiling', 'a', 'b', 'c') * 2]
    a, b = found.results
    assert (a.median_ms, a.p95_ms, a.frames_per_second, a.encoder_ms, a.tail_share, a.frames) == (
        2, 9, 500, 1, 0.25, 3)
    assert (a.startup_s, a.memory_mb, b.median_ms, b.memory_mb) == (1.5, 3.0, 6, 7.0)
    # 2·10⁶ operations in a millisecond are 2·10⁹ a second: half of 4·10⁹.
    assert (a.gflop, a.ceiling_gflops, a.ceiling_share) == (0.002, 4.0, 0.5)
    # What multiplies int8 no faster than float32 tells nothing of int8.
    assert (b.gflop, b.ceiling_gflops, b.ceiling_share) == (0.002, None, None)
    assert found.left_out == {
        'm by refuses in fp32, 40×24, 1 thread': 'no such device',
        'm by c in fp32, 40×24, 1 thread': 'killed'}


def test_the_95th_percentile_leaves_one_of_twenty(fake, monkeypatch):
    monkeypatch.setattr(fake, 'answers', {'ceiling': [{'fp32': 1.0}],
                                          'a': [turn(*range(20, 0, -1))]})
    result, = measure([row('a')], Conditions(rounds=1)).results
    assert (result.median_ms, result.p95_ms) == (10.5, 19)


def test_nothing_that_can_be_measured(fake):
    with pytest.raises(ValueError, match=r'nothing can be measured: m by refuses .*: no such dev'):
        measure([row('refuses')], Conditions())


def test_no_more_processes_than_memory_holds(fake, monkeypatch):
    monkeypatch.setattr(rows, 'available_memory', lambda: 900_000)
    with pytest.raises(ValueError, match=r'3 rows, each in a process .* it is full with 1'):
        measure([row('a'), row('b'), row('c')], Conditions())


# --- what is told ---

def result(model='m', miou=None, share=0.5, **values):
    return Result(**{
        'model': model, 'backend': 'torch', 'precision': 'fp32', 'device': 'cpu', 'threads': 2,
        'width': 40, 'height': 24, 'median_ms': 8.0, 'p95_ms': 9.0, 'frames_per_second': 125.0,
        'encoder_ms': 6.0, 'tail_share': 0.1, 'startup_s': 1.5, 'memory_mb': 300.4, 'gflop': 0.02,
        'ceiling_gflops': share and 4.2, 'ceiling_share': share, 'miou': miou, 'frames': 9,
        **values})


def test_the_table():
    text = as_markdown(Found([result(), result('longer', share=None, precision='int8')],
                             {'z by torch': 'why'}), (720, 1280), 2, 7)
    _, _, *table, _, ceilings, left = text.splitlines()
    assert len({len(line) for line in table}) == 1  # aligned
    assert [cell.strip() for cell in table[2].split('|')[1:-1]] == [
        'm', 'torch', 'fp32', '2', '40×24', '8.0', '9.0', '125.0', '6.0', '10 %', '1.5', '300',
        '50 %']
    assert table[3].split('|')[-2].strip() == '–'
    assert ceilings.endswith('fp32 4 with 2 threads, int8 – with 2 threads')
    assert left == 'left out: z by torch: why'
    assert '1280×720 RGB in, 2 masks of that size out, 7 rounds' in text


@pytest.mark.parametrize(('mious', 'label'), [((0.5, 0.6), 'mIoU, %'),
                                              ((0.5, None), 'memory, MB')])
def test_the_plot(tmp_path, mious, label, monkeypatch):
    from univseg_core.reporting.plots import speed
    figures, new = [], speed.new_panels
    monkeypatch.setattr(speed, 'new_panels',
                        lambda *a, **b: figures.append(new(*a, **b)) or figures[-1])
    draw_speeds([result('a', mious[0]), result('b', mious[1], frames_per_second=60.0)],
                tmp_path / 'a.png')
    axis, = figures[0][1]
    assert axis.get_xlabel() == label
    x = [50, 60] if mious[1] else [300.4, 300.4]
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[x[0], 125]], [[x[1], 60]]]
    assert read_image(tmp_path / 'a.png').std() > 0
