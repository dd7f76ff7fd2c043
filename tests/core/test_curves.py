"""The picture of a training: what is drawn of which log, and what is left out."""

import csv

import numpy as np
import pytest
from univseg_core.cli import main
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.curves import CurvesError, draw_curves, moving_average

FULL = ('loss', 'supervised', 'cross_entropy', 'within_entropy', 'feature_norm', 'embedding_norm',
        'learning_rate', 'data_wait', 'entropy/a/a', 'entropy/a/b', 'entropy/b/a', 'entropy/b/b',
        'images_per_second', 'seconds_per_step')


def write_log(folder, names, count=40):
    folder.mkdir(exist_ok=True)
    with (folder / 'log.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['step', *names])
        for step in range(10, 10 * count + 1, 10):
            writer.writerow([step, *(1 / (step + i) for i in range(len(names)))])


def write_validation(folder, table):
    text = 'step,domain,miou,iou\n' + ''.join(
        f'{step},{name},{value},0.5 nan\n' for step, values in table.items()
        for name, value in zip('ab', values, strict=False))
    (folder / 'validation.csv').write_text(text)


def panels(figure):
    return {axis.get_title('left'): axis for axis in figure.axes if axis.get_title('left')}


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_a_full_log_has_all_its_panels(tmp_path, drawn):
    write_log(tmp_path, FULL)
    write_validation(tmp_path, {100: (0.1, 0.2), 200: (0.5, 0.3), 300: (0.4, 0.35)})
    path = draw_curves(tmp_path)
    assert path == tmp_path / 'curves.png'
    assert read_image(path).std() > 0
    (figure,) = drawn
    shown = panels(figure)
    assert [title.split(' ')[0] for title in shown] == [
        'mIoU', 'Losses', 'Entropies', 'Entropy', 'Norms', 'Learning', 'Seconds', 'Images']
    titles = dict(zip(('miou', 'losses', 'entropies', 'pairs', 'norms'), shown, strict=False))
    assert legend(shown[titles['losses']]) == ['total', 'supervised']
    assert legend(shown[titles['norms']]) == ['feature', 'embedding']
    assert legend(shown[titles['pairs']]) == ['a→a', 'a→b', 'b→a', 'b→b']
    assert legend(shown[titles['miou']]) == ['a 50.0', 'b 30.0', 'sum 80.0, step 200']
    assert 'best at step 200' in figure.get_suptitle()
    for axis in shown.values():  # legends hide no line
        if axis.get_legend():
            assert axis.get_legend().get_window_extent().y0 >= axis.get_window_extent().y1


@pytest.mark.usefixtures('unsaved')
def test_an_older_log_leaves_out_what_it_lacks(tmp_path, drawn):
    write_log(tmp_path, ['loss', 'embedding_norm'])
    draw_curves(tmp_path)
    assert list(panels(drawn[0])) == ['Losses (nats)', 'Norms']


@pytest.mark.usefixtures('unsaved')
def test_terms_that_a_run_does_not_have_are_left_out(tmp_path, drawn):
    (tmp_path / 'log.csv').write_text('step,loss,supervised,cross_entropy,within_entropy\n'
                                      '10,2,2,0,0\n20,1,1,0,0\n')
    draw_curves(tmp_path)
    assert list(panels(drawn[0])) == ['Losses (nats)']


@pytest.mark.usefixtures('unsaved')
def test_columns_that_came_later_are_drawn_from_there(tmp_path, drawn):
    (tmp_path / 'log.csv').write_text('step,loss,feature_norm\n10,2,\n20,1,5\n30,1,6\n')
    draw_curves(tmp_path)
    (line,) = panels(drawn[0])['Norms'].get_lines()
    assert line.get_ydata() == pytest.approx([np.nan, 5, 6], nan_ok=True)


def test_the_first_row_is_enough(tmp_path):
    write_log(tmp_path, FULL, 1)
    assert draw_curves(tmp_path).stat().st_size > 1000


@pytest.mark.usefixtures('unsaved')
def test_validations_alone_are_enough(tmp_path, drawn):
    write_validation(tmp_path, {100: (float('nan'), 0.2)})
    draw_curves(tmp_path)
    assert len(panels(drawn[0])) == 1


def test_a_folder_without_a_log_is_refused(tmp_path, capsys):
    with pytest.raises(CurvesError, match=r'no log\.csv or validation\.csv'):
        draw_curves(tmp_path)
    assert main(['curves', str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith('univseg curves: ')
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_a_run_and_its_parts(finished_run, tmp_path, capsys):
    for name in ('log.csv', 'validation.csv'):
        (tmp_path / name).write_bytes((finished_run[0] / name).read_bytes())
    assert main(['curves', str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').exists()


def test_a_moving_average_is_over_what_is_there():
    values = np.array([1.0, 2, 6, np.nan, 4])
    assert moving_average(values, 3) == pytest.approx([1.5, 3, 4, np.nan, 4], nan_ok=True)
    assert moving_average(values, 1) == pytest.approx(values, nan_ok=True)
    assert moving_average(np.ones(3), 99) == pytest.approx(np.ones(3))
