"""What all figures share: files, legends, texts that keep apart, runs and their names."""

import json
import re
from xml.etree import ElementTree

from figure_runs import write_run
import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR
from univseg_core.cli import main
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.measuring.finished_runs import FinishedRunError, load_runs, run_names
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.drawing import (
    add_legend,
    new_figure,
    swatches,
    write_figure,
)
from univseg_core.reporting.plots.texts import apart, write_apart
import yaml

LOWER, UPPER = np.array([0., 0.]), np.array([100., 100.])


def test_a_figure_is_a_png_and_an_svg_with_text(tmp_path):
    figure = new_figure(2, 1)
    figure.text(0.1, 0.5, 'road and floor')
    paths = write_figure(figure, tmp_path / 'new' / 'a.b')
    assert paths == [tmp_path / 'new' / 'a.b.png', tmp_path / 'new' / 'a.b.svg']
    picture = read_image(paths[0])
    assert picture.shape == (150, 300, 3)
    assert picture.min() < 100
    svg = paths[1].read_text()
    assert '<text' in svg
    assert 'road and floor' in svg


@pytest.mark.parametrize('name', ['$x$ a_b', r'\frac{$', '$', 'a$b^', '<b>&'])
def test_names_are_drawn_as_they_are(tmp_path, name):
    """Not as formulae."""
    figure = new_figure(4, 1)
    domain = Domain.create('yard', [name, f'{name}{name}'])
    add_legend(figure, '', swatches(domain, [0, 1]), 0.1)
    svg = ElementTree.fromstring(write_figure(figure, tmp_path / 'a')[1].read_text())
    assert [text.text for text in svg.iter('{http://www.w3.org/2000/svg}text')
            ] == [*domain.classes]


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    def write(folder):
        figure = new_figure(2, 1)
        figure.add_axes([0.2, 0.2, 0.7, 0.7]).plot([1, 2, 3])
        return [path.read_bytes() for path in write_figure(figure, folder / 'same')]

    assert write(tmp_path / 'a') == write(tmp_path / 'b')


def test_when_one_file_cannot_be_written_both_stay_as_they_were(tmp_path, full_disk):
    write_figure(new_figure(1, 1), tmp_path / 'a')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    figure = new_figure(2, 2)  # few bytes as PNG, more than the disk has as SVG
    figure.add_axes([0, 0, 1, 1]).plot(np.random.default_rng(0).uniform(size=20000))
    with full_disk(), pytest.raises(OSError):
        write_figure(figure, tmp_path / 'a')
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_legend_fits_the_figure_and_stands_where_its_height_says():
    domain = Domain.create('many', [f'a class of number {i}' for i in range(20)])
    figure = new_figure(5, 6)
    height = add_legend(figure, 'many', swatches(domain, range(20)), 0.5)
    box = figure.legends[0].get_window_extent()
    assert len(figure.legends) == 1
    assert box.x1 <= 5 * figure.dpi
    assert (box.y0 / figure.dpi, box.y1 / figure.dpi) == pytest.approx((0.5, 0.5 + height))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(domain.classes)


def test_boxes_apart_stay_where_they_are():
    centres = np.array([[20., 20], [60, 20], [20, 60]])
    np.testing.assert_array_equal(apart(centres, np.full((3, 2), 10.), LOWER, UPPER), centres)


def test_two_overlapping_boxes_move_the_shorter_way():
    """Boxes of 40×10 at the same height, 30 apart: 10 are missing across, 10 upwards: upwards."""
    moved = apart(np.array([[30., 50], [60, 50]]), np.array([[40., 10], [40, 10]]), LOWER, UPPER)
    np.testing.assert_allclose(moved, [[30, 44.9], [60, 55.1]])


def test_many_boxes_end_without_overlap_and_inside():
    centres = np.random.default_rng(0).normal([50, 95], 4, (12, 2))
    sizes = np.full((12, 2), (20., 8.))
    moved = apart(centres, sizes, LOWER, UPPER)
    assert (moved - sizes / 2 >= LOWER).all()
    assert (moved + sizes / 2 <= UPPER).all()
    for i in range(12):
        for j in range(i):
            assert (np.abs(moved[i] - moved[j]) >= sizes[0]).any()


def test_texts_stand_at_their_points_or_are_led_to_them():
    figure = new_figure(5, 5)
    axis = figure.add_axes([0.1, 0.1, 0.8, 0.8])
    points = np.array([[-30., 7], [50, 90], [50, 90.5], [50, 91]])
    axis.scatter(*points.T)
    write_apart(axis, points, ['alone', 'one', 'two', 'three'], ['red', 'green', 'blue', 'black'])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axis.texts]
    middle = axis.transData.inverted().transform(boxes[0].get_points().mean(0))
    np.testing.assert_allclose(middle[1], 7, atol=0.1)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    ends = [line.get_xydata()[0].tolist() for line in axis.lines]
    assert ends
    assert [-30, 7] not in ends


@pytest.mark.parametrize('paths, names', [
    (['runs/basic', 'runs/full'], ['basic', 'full']),
    (['a/basic', 'b/basic', 'b/full'], ['a/basic', 'b/basic', 'b/full']),
    (['basic', 'finetune/yard', 'single/yard'], ['basic', 'finetune/yard', 'single/yard']),
    (['runs/basic', 'runs/basic'], ['basic', 'basic']),
    (['runs/basic/model.univseg', 'runs/full'], ['basic', 'full']),
    (['runs/basic/best.univseg'], ['best']),
    (['runs/v1.5'], ['v1.5']),
])
def test_names_are_paths_below_the_folder_of_all_runs(tmp_path, monkeypatch, paths, names):
    monkeypatch.chdir(tmp_path)
    for path in map(tmp_path.joinpath, paths):
        if path.suffix == '.univseg':
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
    assert run_names([tmp_path / path for path in paths]) == names


def test_a_run_is_loaded_with_its_own_validation_images(tmp_path, worlds):
    folder = write_run(tmp_path / 'first', worlds)
    run, = load_runs([folder], device='cpu')
    assert run.name == 'first'
    assert list(run.domains) == ['outdoor', 'indoor']
    assert [sample.image.name for sample in run.samples['indoor']] == [
        '00.png', '01.png', '02.png', '03.png']
    again, = load_runs([folder / 'model.univseg'], str(folder / 'config.yaml'), 'cpu')
    assert again.samples == run.samples
    assert again.name == 'first'


def test_other_validation_images_than_the_run_had_are_told(tmp_path, worlds, caplog):
    folder = write_run(tmp_path / 'first', worlds, domains=(INDOOR,))
    splits = {'indoor': {'validation': {'images': ['00.png', '01.png', '02.png', 'gone.png']}}}
    (folder / 'splits.json').write_text(json.dumps(splits))
    assert main(['evaluate', str(folder), '--device', 'cpu', '--quiet']) == 0
    assert caplog.messages == [
        'first: indoor: measured on 3 of the 4 validation images that the run had (gone: '
        'gone.png) and on 1 that it had not (03.png)']
    caplog.clear()
    splits['indoor']['validation']['images'][3] = '03.png'
    (folder / 'splits.json').write_text(json.dumps(splits))
    load_runs([folder], device='cpu')
    assert not caplog.messages


def test_what_is_not_a_finished_run_is_told(tmp_path, worlds):
    def message(path, **options):
        with pytest.raises(UnivsegError) as error:
            load_runs([path], device='cpu', **options)
        return str(error.value)

    assert message(tmp_path / 'none') == f'{tmp_path}/none: no such run folder or model file'
    assert re.match(f'{tmp_path}: not a finished run: .* no model.univseg', message(tmp_path))
    folder = write_run(tmp_path / 'first', worlds)
    assert '--config' in message(folder / 'model.univseg')
    (folder / 'config.yaml').unlink()
    assert message(folder).startswith(f'{folder}/config.yaml: ')
    (folder / 'model.univseg').write_text('no model')
    assert str(folder / 'model.univseg') in message(folder)


def test_runs_of_different_label_spaces_are_told(tmp_path, worlds):
    first = write_run(tmp_path / 'first', worlds)
    other = Domain.create('indoor', ['wall', 'window'])
    second = write_run(tmp_path / 'second', worlds, domains=(OUTDOOR, other))
    values = yaml.safe_load((second / 'config.yaml').read_text())
    values['domains']['indoor']['classes'] = list(other.classes)
    (second / 'config.yaml').write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(FinishedRunError, match='second and first both have a domain indoor, '
                       'but of different classes: wall, window and wall, lamp'):
        load_runs([first, second], device='cpu')
    third = write_run(tmp_path / 'third', worlds, domains=(INDOOR,))
    assert len(load_runs([first, third], device='cpu')) == 2
