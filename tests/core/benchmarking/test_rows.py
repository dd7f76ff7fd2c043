"""Rows of a benchmark take turns, and their table and plot."""

import pytest
from univseg_core.benchmarking import rows
from univseg_core.benchmarking.processes import WorkerError
from univseg_core.benchmarking.rows import Candidate, Conditions, Found, measure, Result, Row
from univseg_core.benchmarking.table import as_markdown
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.speed import draw_speeds

SIZE = (24, 40)


class FakeWorker:
    """Answers as it is told to, and notes its turns."""

    answers, turns, counted = {}, [], []
    memory_mb = 1.0

    def __init__(self, job):
        if job['measure'] == 'ceiling':
            self.name, self.ready = 'ceiling', {}
            return
        if job['measure'] == 'operations':
            if job['path'] == 'uncounted.onnx':
                raise WorkerError('killed')
            self.counted.append((job['path'], job['size']))
            self.ready = {'operations': 2e6}
            return
        self.name = job['backend']
        if self.name == 'refuses':
            raise WorkerError('no such device')
        self.ready = {'startup_s': 1.5, 'device': 'cpu', 'memory_mb': self.memory_mb}

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
    monkeypatch.setattr(FakeWorker, 'counted', [])
    return FakeWorker


def row(backend, precision='fp32', path='m.onnx'):
    return Row(Candidate('m', path, backend, precision, (SIZE,)), 1, SIZE)


def turn(*times, memory=3.0):
    return {'frames': [[time, time / 2, time / 4] for time in times], 'memory_mb': memory}


def test_rows_take_turns_and_medians_are_of_all(fake, monkeypatch):
    monkeypatch.setattr(fake, 'answers', {
        'ceiling': [{'fp32': 1.0, 'int8': 0.5}, {'fp32': 4.0, 'int8': 0.5}],
        'a': [turn(1, 9), turn(2)], 'b': [turn(8), turn(4, memory=7.0)],
        'c': [turn(1), WorkerError('killed')]})
    found = measure([row('a'), row('refuses'), row('b', 'int8'), row('c')],
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


def test_operations_are_counted_once_where_memory_allows(fake, monkeypatch, caplog):
    """By processes of their own, at the end; the rows that have none are there all the same."""
    def measured(available):
        monkeypatch.setattr(rows, 'available_memory', lambda: available)
        monkeypatch.setattr(fake, 'answers', {'ceiling': [{'fp32': 4.0}],
                                              **{name: [turn(1, memory=3.0)] for name in 'abc'}})
        return [each.gflop for each in measure([
            row('a'), row('b'), row('c', path='uncounted.onnx')], Conditions(rounds=1)).results]

    with caplog.at_level('INFO'):
        assert measured(rows.COUNTING * 3_000_000) == [0.002, 0.002, None]
        assert fake.counted == [('m.onnx', SIZE)]
        assert 'm by c in fp32, 40×24, 1 thread: its operations cannot be counted: killed' in (
            caplog.text)
        assert measured(rows.COUNTING * 3_000_000 - 1) == [None, None, None]
        assert fake.counted == [('m.onnx', SIZE)]
        assert 'too little memory to count its operations' in caplog.text


def test_the_95th_percentile_leaves_one_of_twenty(fake, monkeypatch):
    monkeypatch.setattr(fake, 'answers', {'ceiling': [{'fp32': 1.0}],
                                          'a': [turn(*range(20, 0, -1))]})
    result, = measure([row('a')], Conditions(rounds=1)).results
    assert (result.median_ms, result.p95_ms) == (10.5, 19)


def test_nothing_that_can_be_measured(fake):
    with pytest.raises(ValueError, match=r'nothing can be measured: m by refuses .*: no such dev'):
        measure([row('refuses')], Conditions())


def test_no_more_processes_than_memory_holds(fake, monkeypatch):
    monkeypatch.setattr(rows, 'available_memory', lambda: 3_000_000)
    monkeypatch.setattr(fake, 'memory_mb', 3.1)
    with pytest.raises(ValueError, match=r'3 rows, each in a process .* it is full with 1'):
        measure([row('a'), row('b'), row('c')], Conditions())


def test_images_that_memory_does_not_hold_are_left_out(fake, monkeypatch):
    """A camera's of 3·2 000 000 bytes, and what the network sees of it as floats."""
    monkeypatch.setattr(rows, 'available_memory', lambda: 6_000_000 + 12 * 24 * 40 - 1)
    with pytest.raises(ValueError, match=r'1 thread: its images alone take 0\.00601 GB of memory'):
        measure([row('a')], Conditions(image=(1000, 2000)))
    monkeypatch.setattr(rows, 'available_memory', lambda: 6_000_000 + 12 * 24 * 40)
    monkeypatch.setattr(fake, 'answers', {'ceiling': [{'fp32': 1.0}], 'a': [turn(1)]})
    assert measure([row('a')], Conditions(image=(1000, 2000), rounds=1)).results


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
