"""Qualitative panels: which images, which columns, in which colours."""

from figure_runs import write_run
import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.measuring.finished_runs import load_runs
from univseg_core.pictures.images import write_png
from univseg_core.reporting.plots.comparison import draw_comparison, most_different, named_samples
from univseg_core.reporting.plots.drawing import FigureError


@pytest.fixture(scope='module')
def runs(worlds, tmp_path_factory):
    """Return a run of both domains and one of the outdoor one alone; not to be changed."""
    folder = tmp_path_factory.mktemp('figures')
    return load_runs([write_run(folder / 'alone', worlds, domains=(OUTDOOR,)),
                      write_run(folder / 'both', worlds, seed=1)], device='cpu')


def pictures(figure):
    """Return the figure's pictures, row by row from above, each row from the left."""
    axes = sorted(figure.axes, key=lambda axis: (-round(axis.get_position().y0, 4),
                                                 axis.get_position().x0))
    return [axis.images[0].get_array() for axis in axes]


def test_samples_that_are_far_from_each_other_in_the_features(runs, tmp_path):
    """Of two scenes, three frames each that hardly differ, and one other that is grey."""
    scenes = [np.random.default_rng(seed).integers(0, 250, (6, 8, 3)) for seed in (0, 1)]
    scenes = [np.kron(scene, np.ones((8, 8, 1))).astype(np.uint8) for scene in scenes]
    frames = [scene + i for scene in scenes for i in range(3)] + [np.full((48, 64, 3), 99)]
    samples = []
    for i, frame in enumerate(frames):
        write_png(tmp_path / f'{i}.png', frame.astype(np.uint8))
        samples.append(Sample(tmp_path / f'{i}.png'))
    chosen = most_different(runs[0], 'outdoor', samples, 3)
    assert [int(sample.image.stem) // 3 for sample in chosen] == [0, 1, 2]
    assert most_different(runs[0], 'outdoor', samples, 7) == samples


def test_samples_by_name(runs):
    samples = runs[1].samples
    found = named_samples(samples, ['02.png', '00'])
    assert {name: [sample.image.stem for sample in each] for name, each in found.items()} == {
        'outdoor': ['02', '00'], 'indoor': ['02', '00']}
    assert list(named_samples({'outdoor': samples['outdoor'][:1], 'indoor': samples['indoor']},
                              ['03'])) == ['indoor']
    with pytest.raises(FigureError, match="named '7'; there are outdoor: 00 … 03; indoor: 00"):
        named_samples(samples, ['00', '7'])


@pytest.mark.usefixtures('unsaved')
def test_image_truth_and_a_column_for_each_run_that_has_the_domain(runs, tmp_path, drawn):
    paths = draw_comparison(runs, tmp_path / 'panels', names=['01'])
    assert [path.name for path in paths] == ['panels.png', 'panels.svg']
    figure, = drawn
    expected = []
    for domain, segmenters in ((OUTDOOR, [run.segmenter for run in runs]),
                               (INDOOR, [runs[1].segmenter])):
        image, label = read_sample(runs[1].samples[domain.name][1], domain)
        masks = [label, *(each(image, [domain.name])[domain.name].mask for each in segmenters)]
        expected += [image, *(domain.colourise(mask) for mask in masks)]
    found = pictures(figure)
    assert len(found) == len(expected) == 4 + 3
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_array_equal(here, there)
    assert [text.get_text() for text in figure.texts] == [
        'image', 'truth', 'both', 'indoor', 'image', 'truth', 'alone', 'both', 'outdoor']
    legends = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert legends[0][-1] == legends[1][-1] == 'void'
    assert set(legends[0]) <= {*INDOOR.classes, 'void'}
    assert set(legends[1]) <= {*OUTDOOR.classes, 'void'}


@pytest.mark.usefixtures('unsaved')
def test_as_many_rows_of_each_domain_as_asked_for(runs, tmp_path, drawn):
    draw_comparison(runs[1:], tmp_path / 'panels', count=2)
    assert len(drawn[0].axes) == 2 * 2 * 3


@pytest.mark.usefixtures('unsaved')
def test_nothing_overlaps_and_all_is_inside(runs, tmp_path, drawn):
    draw_comparison(runs, tmp_path / 'panels', count=2)
    figure, = drawn
    figure.canvas.draw()
    boxes = [each.get_window_extent() for each in (*figure.axes, *figure.texts, *figure.legends)]
    for i, box in enumerate(boxes):
        assert not any(box.shrunk(0.98, 0.98).overlaps(other) for other in boxes[:i])
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
