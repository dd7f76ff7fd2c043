"""What an experiment's runs came to over their computing time: which runs, where."""

import pytest
from univseg_core.images import read_image
from univseg_core.plots.cost import draw_costs, load_costs, RunCost
from univseg_core.plots.runs import FigureError

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


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / 'few_runs.csv'
    path.write_text(HEAD + ROWS)
    return path


def test_runs_of_one_domain_count_together_and_incomplete_ones_not(runs):
    assert load_costs(runs) == [
        RunCost('100', 'supervised_only', 90.0, 60.5), RunCost('100', 'univ_basic', 90.0, 62.0),
        RunCost('100', 'univ_basic', 150.0, 68.0), RunCost('25', 'univ_basic', 96.0, 40.0)]


def test_variants_can_be_chosen(runs):
    assert load_costs(runs, ['supervised_only']) == [
        RunCost('100', 'supervised_only', 90.0, 60.5)]
    with pytest.raises(FigureError, match=r'few_runs\.csv: has no run of univ_cross; it has '
                                          'supervised_only, univ_basic, univ_full$'):
        load_costs(runs, ['univ_basic', 'univ_cross'])


def test_a_panel_for_each_number_of_labels(runs, tmp_path, drawn):
    paths = draw_costs(load_costs(runs), tmp_path / 'cost')
    assert [path.name for path in paths] == ['cost.png', 'cost.svg']
    assert read_image(paths[0]).std() > 0
    figure, = drawn
    assert [axis.get_title('left') for axis in figure.axes] == ['N = 100', 'N = 25']
    assert {axis.get_xlabel() for axis in figure.axes} == {'minutes of computing'}
    points = [(line.get_xdata().tolist(), line.get_ydata().tolist())
              for line in figure.axes[0].lines if line.get_marker() != 'None']
    # Each variant's runs, then their mean.
    assert points == [([1.5], [60.5]), ([1.5], [60.5]),
                      ([1.5, 2.5], [62.0, 68.0]), ([2.0], [65.0])]
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ['supervised_only', 'univ_basic']
    # A variant looks the same in every panel.
    styles = [(line.get_color(), line.get_marker()) for line in legend.get_lines()]
    assert len(set(styles)) == 2
    assert {(line.get_color(), line.get_marker()) for line in figure.axes[1].lines
            if line.get_marker() != 'None'} == {styles[1]}


@pytest.mark.parametrize('text, reason', [
    ('', "expected an experiment's NAME_runs.csv"),
    (HEAD, "expected an experiment's NAME_runs.csv"),
    ('step,loss\n10,2.0\n', "expected an experiment's NAME_runs.csv"),
    (HEAD + '100,0,univ_basic,10,soon,41.0,1,21.0,1\n', 'damaged: .*soon'),
    (HEAD + '100,0,univ_basic,10,90,41.0\n', 'no run has both a time and the mIoU'),
    (HEAD + '100,0,univ_basic,10,,41.0,1,21.0,1\n', 'no run has both a time and the mIoU'),
    (HEAD + '100,0,"univ_basic', 'cannot be read as CSV'),
])
def test_other_files_are_refused(tmp_path, text, reason):
    path = tmp_path / 'other.csv'
    path.write_text(text)
    with pytest.raises(FigureError, match=rf'other\.csv: {reason}'):
        load_costs(path)


def test_what_is_no_file_is_told(tmp_path):
    (tmp_path / 'latin.csv').write_bytes(b'labelled,\xe4\n')
    for path in (tmp_path, tmp_path / 'none.csv', tmp_path / 'latin.csv'):
        with pytest.raises(FigureError, match=f'{path}: cannot be read as CSV'):
            load_costs(path)
