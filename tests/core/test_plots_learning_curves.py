"""Several runs' curves in one picture: which panels, which lines."""

from figure_runs import write_log
import numpy as np
import pytest
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.drawing import FigureError
from univseg_core.reporting.plots.learning_curves import draw_learning_curves, load_courses
from univseg_core.reporting.run_tables import read_validation, RunLogError


@pytest.fixture
def folders(tmp_path):
    """Return two runs of both domains, and one of the first domain alone."""
    runs = {'basic': ['a', 'b'], 'full': ['a', 'b'], 'alone': ['a']}
    for seed, (name, domains) in enumerate(runs.items()):
        (tmp_path / name).mkdir()
        write_log(tmp_path / name, domains, seed)
    return [tmp_path / name for name in runs]


def panels(figure):
    return {axis.get_title('left'): axis for axis in figure.axes if axis.get_title('left')}


def test_each_domain_the_sum_and_the_losses(folders, tmp_path, drawn):
    paths = draw_learning_curves(load_courses(folders), tmp_path / 'curves')
    assert [path.name for path in paths] == ['curves.png', 'curves.svg']
    assert read_image(paths[0]).std() > 0
    found = panels(drawn[0])
    assert {title: len(axis.lines) for title, axis in found.items()} == {
        'mIoU of a, %': 3, 'mIoU of b, %': 2, 'Sum of the mIoUs, %': 2,
        'Supervised loss, nats': 3, 'Cross-domain entropy, nats': 3}
    basic = found['Sum of the mIoUs, %'].lines[0]
    assert basic.get_xdata().tolist() == [20, 40]
    np.testing.assert_allclose(basic.get_ydata(), [
        100 * sum(each.miou.values()) for each in read_validation(folders[0])])
    assert all(axis.get_xlabel() == 'step' for axis in found.values())
    # A run looks the same in every panel, and unlike the others.
    figure, = drawn
    legend = [(line.get_color(), line.get_linestyle()) for line in figure.legends[0].get_lines()]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['basic', 'full',
                                                                           'alone']
    assert len({colour for colour, _ in legend}) == len({style for _, style in legend}) == 3
    for title, axis in found.items():
        shown = [(line.get_color(), line.get_linestyle()) for line in axis.lines]
        assert shown == legend[:len(shown)], title


@pytest.mark.usefixtures('unsaved')
def test_the_consistency_loss_is_shown(folders, tmp_path, drawn):
    """Of a run that has it in its log, from its first unlabelled crop on."""
    (folders[1] / 'log.csv').write_text(
        'step,supervised,consistency\n10,1,\n20,0.5,0.25\n30,0.4,0.125\n')
    draw_learning_curves(load_courses(folders), tmp_path / 'curves')
    (line,) = panels(drawn[0])['Consistency loss, nats'].lines
    assert line.get_xdata().tolist() == [10, 20, 30]
    np.testing.assert_array_equal(line.get_ydata(), [np.nan, 0.25, 0.125])


@pytest.mark.usefixtures('unsaved')
def test_one_domain_has_no_sum(folders, tmp_path, drawn):
    draw_learning_curves(load_courses(folders[2:]), tmp_path / 'curves')
    assert not any('Sum' in title for title in panels(drawn[0]))


@pytest.mark.usefixtures('unsaved')
def test_a_log_alone_or_validations_alone_are_enough(folders, tmp_path, drawn):
    (folders[0] / 'validation.csv').unlink()
    (folders[1] / 'log.csv').unlink()
    draw_learning_curves(load_courses(folders[:1]), tmp_path / 'log')
    draw_learning_curves(load_courses(folders[1:2]), tmp_path / 'validation')
    losses, validations = map(panels, drawn)
    assert list(losses) == ['Supervised loss, nats', 'Cross-domain entropy, nats']
    assert list(validations) == ['mIoU of a, %', 'mIoU of b, %', 'Sum of the mIoUs, %']


def test_what_has_no_log_is_told(folders, tmp_path):
    with pytest.raises(FigureError, match='none: expected a run folder'):
        load_courses([*folders, tmp_path / 'none'])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FigureError, match=r'empty: no log\.csv or validation\.csv with a row'):
        load_courses([*folders, tmp_path / 'empty'])
    (folders[1] / 'log.csv').write_text('step,loss\n10,1,2\n')
    with pytest.raises(RunLogError, match='damaged'):
        load_courses(folders)
