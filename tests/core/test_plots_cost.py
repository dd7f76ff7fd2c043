"""What an experiment's runs came to over their computing time: which runs, where."""

import csv
from pathlib import Path

import pytest
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.cost import draw_costs
from univseg_core.reporting.plots.drawing import FigureError
from univseg_core.reporting.plots.experiment_runs import ExperimentRun, load_experiment_runs

HEAD = 'labelled,seed,variant,steps,seconds,miou/a,prototype_miou/a,miou/b,prototype_miou/b\n'
ROWS = """\
100,0,supervised_only,10,60,40.0,1,,
100,0,supervised_only,10,30,,,20.5,1
100,0,univ_basic,10,90,41.0,1,21.0,1
100,1,univ_basic,10,150,43.0,1,25.0,1
25,0,univ_basic,10,96,30.0,1,10.0,1
25,0,univ_full,10,,30.0,1,10.0,1
25,1,supervised_only,10,60,40.0,1,,
"""
EXPECTED = "expected an experiment's NAME_runs\\.csv, with the columns .*; it has "


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / 'few_runs.csv'
    path.write_text(HEAD + ROWS)
    return path


def test_runs_of_one_domain_count_together_and_incomplete_ones_not(runs):
    assert load_experiment_runs(runs) == ([
        ExperimentRun('100', '0', 'supervised_only', 90.0, (40.0, 20.5)),
        ExperimentRun('100', '0', 'univ_basic', 90.0, (41.0, 21.0)),
        ExperimentRun('100', '1', 'univ_basic', 150.0, (43.0, 25.0)),
        ExperimentRun('25', '0', 'univ_basic', 96.0, (30.0, 10.0))], ['a', 'b'])


def test_a_time_that_is_not_known_matters_where_it_is_asked_for(runs):
    assert [run.variant for run in load_experiment_runs(runs)[0] if run.labelled == '25'] == [
        'univ_basic']
    found = load_experiment_runs(runs, timed=False)[0]
    assert [(run.variant, run.mious) for run in found if run.labelled == '25'] == [
        ('univ_basic', (30.0, 10.0)), ('univ_full', (30.0, 10.0))]


def test_what_a_spreadsheet_has_saved_is_read(runs):
    expected = load_experiment_runs(runs)
    runs.write_text(runs.read_text(), encoding='utf-8-sig')
    assert load_experiment_runs(runs) == expected


def test_the_file_that_experiments_write_is_read():
    path = Path(__file__).parents[2] / 'docs/experiments/camvid_nyuv2_light_120x90_runs.csv'
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row['variant'] != 'supervised_only']
    costs, domains = load_experiment_runs(path, ['univ_basic', 'univ_balanced_teacher'])
    assert domains == ['outdoor', 'indoor']
    expected = {(row['labelled'], row['seed'], row['variant']): (
        float(row['seconds']), float(row['miou/outdoor']) + float(row['miou/indoor']))
        for row in rows if row['variant'] in ('univ_basic', 'univ_balanced_teacher')}
    assert len(costs) == len(expected) > 4
    for cost in costs:
        assert (cost.seconds, cost.miou) == pytest.approx(
            expected[cost.labelled, cost.seed, cost.variant])


def test_variants_can_be_chosen_of_which_there_are_runs(runs):
    assert load_experiment_runs(runs, ['supervised_only'])[0] == [
        ExperimentRun('100', '0', 'supervised_only', 90.0, (40.0, 20.5))]
    for name in ('univ_cross', 'univ_full'):
        with pytest.raises(FigureError, match=rf'few_runs\.csv: no run of {name} has a time and '
                                              r'the mIoU of each domain \(a, b\)$'):
            load_experiment_runs(runs, ['univ_basic', name])


def marked(axis):
    return [line for line in axis.lines if line.get_marker() != 'None']


def test_a_panel_for_each_number_of_labels(runs, tmp_path, drawn):
    paths = draw_costs(*load_experiment_runs(runs), tmp_path / 'cost')
    assert [path.name for path in paths] == ['cost.png', 'cost.svg']
    assert read_image(paths[0]).std() > 0
    figure, = drawn
    assert [axis.get_title('left') for axis in figure.axes] == ['N = 100', 'N = 25']
    assert {axis.get_xlabel() for axis in figure.axes} == {'minutes of computing'}
    assert [axis.get_ylabel() for axis in figure.axes] == ['mIoU of a + b, %', '']
    for axis in figure.axes:
        assert axis.get_xlim() == pytest.approx((0, 1.06 * 2.5))
    first, second = figure.axes
    # Each variant's runs, then their mean, to which each of them is joined.
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in marked(first)] == [
        ([1.5], [60.5]), ([1.5], [60.5]), ([1.5, 2.5], [62.0, 68.0]), ([2.0], [65.0])]
    joined = [line for line in first.lines if line.get_marker() == 'None']
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in joined[1:]] == [
        ([2.0, 1.5], [65.0, 62.0]), ([2.0, 2.5], [65.0, 68.0])]
    # Hollow is the mean of a variant that lacks seed 1.
    assert [line.get_markerfacecolor() for line in (marked(first)[1], marked(first)[3])] == [
        'white', marked(first)[3].get_color()]
    # A variant looks the same in every panel, and unlike the others.
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ['supervised_only', 'univ_basic']
    styles = [(line.get_color(), line.get_marker()) for line in legend.get_lines()]
    assert len({colour for colour, _ in styles}) == len({marker for _, marker in styles}) == 2
    assert {(line.get_color(), line.get_marker()) for line in marked(second)} == {styles[1]}


@pytest.mark.usefixtures('unsaved')
def test_many_variants_look_different(tmp_path, drawn):
    costs = [ExperimentRun(str(n), '0', f'variant {i}', 60.0 + i, (40.0,)) for n in range(4)
             for i in range(20)]
    draw_costs(costs, ['a'], tmp_path / 'cost')
    assert len({(line.get_color(), line.get_marker())
                for line in drawn[0].legends[0].get_lines()}) == 20
    assert [axis.get_title('left') for axis in drawn[0].axes if axis.axison] == [
        f'N = {n}' for n in range(4)]


@pytest.mark.parametrize('text, reason', [
    ('', EXPECTED + 'none'), ('step,loss\n10,2.0\n', EXPECTED + 'step, loss'),
    ((HEAD + ROWS).replace(',', ';'), EXPECTED + 'labelled;seed;'),
    (HEAD, 'no run has a time'),
    (HEAD + '100,0,univ_basic,10,90,41.0\n', 'row 2: expected 9 cells, as the first row has'),
    (HEAD + '100,0,univ_basic,10,90,41.0,1,21.0,1,2\n', 'row 2: expected 9 cells'),
    (HEAD + '100,0,univ_basic,10,,41.0,1,21.0,1\n', 'no run has a time'),
    (HEAD + '100,0\n', 'row 2: expected labelled, seed, variant in each row'),
    (HEAD + '100,0,univ_basic,10,soon,41.0,1,21.0,1\n',
     "seconds of univ_basic, N = 100, seed 0: expected a number, 0 or more, got 'soon'"),
    (HEAD + '100,0,univ_basic,10,nan,41.0,1,21.0,1\n', "seconds of .* got 'nan'"),
    (HEAD + '100,0,univ_basic,10,90,41.0,1,-21.0,1\n', r"miou/b of .* got '-21\.0'"),
    (HEAD + 2 * '100,0,univ_basic,10,90,41.0,1,21.0,1\n', 'univ_basic, N = 100, seed 0 is there'),
    (HEAD + '100,0,"univ_basic', 'cannot be read as CSV'),
])
def test_other_files_are_refused(tmp_path, text, reason):
    path = tmp_path / 'other.csv'
    path.write_text(text)
    with pytest.raises(FigureError, match=rf'other\.csv: {reason}'):
        load_experiment_runs(path)


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / 'latin.csv').write_bytes(b'labelled,\xe4\n')
    for path in (tmp_path, tmp_path / 'none.csv', tmp_path / 'latin.csv'):
        with pytest.raises(FigureError, match=f'{path}: cannot be read as CSV'):
            load_experiment_runs(path)
