"""What variants of an experiment are above others: which seeds, by how much, how sure."""

import numpy as np
import pytest
from univseg_core.reporting.plots.differences import Differences, differences, draw_differences
from univseg_core.reporting.plots.drawing import FigureError
from univseg_core.reporting.plots.experiment_runs import ExperimentRun

RUNS = [ExperimentRun('25', seed, variant, 1.0, mious) for seed, variant, mious in (
    ('0', 'with', (51.0, 22.0)), ('0', 'without', (50.0, 20.0)),
    ('1', 'with', (54.0, 23.0)), ('1', 'without', (51.0, 22.0)),
    ('2', 'with', (99.0, 99.0)))] + [
        ExperimentRun('100', '4', 'with', 1.0, (60.0, 30.0)),
        ExperimentRun('100', '4', 'without', 1.0, (61.0, 32.0))]


def test_seeds_that_both_have_are_compared_at_each_n():
    first, second = differences(RUNS, [('with', 'without')])
    assert (first.labelled, second.labelled) == ('25', '100')
    assert first.points.tolist() == [[1, 2, 3], [3, 1, 4]]
    assert second.points.tolist() == [[-1, -2, -3]]


def test_the_interval_is_students():
    # Of 1, 2, 3, 4, 5: a standard error of the square root of 1/2, and t of 4 degrees, 2.7764.
    found = Differences('25', 'with', 'without', np.arange(1.0, 6.0)[:, None])
    assert found.interval == pytest.approx([2.776445 * 0.5 ** 0.5])
    assert np.isnan(Differences('25', 'with', 'without', np.ones((2, 3))).interval).all()


@pytest.mark.usefixtures('unsaved')
def test_a_row_for_each_pair_and_n_and_a_panel_for_each_domain(tmp_path, drawn):
    paths = draw_differences(differences(RUNS, [('with', 'without'), ('without', 'with')]),
                             ['yard', 'hall'], tmp_path / 'differences')
    assert [path.name for path in paths] == ['differences.png', 'differences.svg']
    figure, = drawn
    assert [axis.get_title('left') for axis in figure.axes] == ['yard', 'hall', 'sum']
    yard = figure.axes[0]
    assert [label.get_text() for label in yard.get_yticklabels()] == [
        'with above without, N = 25 (2)', 'with above without, N = 100 (1)',
        'without above with, N = 25 (2)', 'without above with, N = 100 (1)']
    marked = [line.get_xdata().tolist() for line in figure.axes[2].lines
              if line.get_marker() == 'o']
    assert marked == [[3, 4], [3.5], [-3], [-3], [-3, -4], [-3.5], [3], [3]]


def test_a_pair_without_a_seed_in_common_is_named():
    with pytest.raises(FigureError, match='with:witout: no run of witout is complete; there are '
                                          'runs of with, without; did you mean without'):
        differences(RUNS, [('with', 'witout')])
    with pytest.raises(FigureError, match='with:without: they have no N and seed in common'):
        differences([RUNS[0], RUNS[3]], [('with', 'without')])
