"""What one pass over validation images finds, beside what finds each of it alone."""

from figure_runs import write_run
import numpy as np
import pytest
from tiny_worlds import VALIDATION
from univseg_core.measuring.correspondences import measure_correspondences
from univseg_core.measuring.evaluation import evaluate
from univseg_core.measuring.finished_runs import load_runs
from univseg_core.reporting.html.findings import _ChosenCells, find, PER_CLASS


@pytest.fixture(scope='module')
def run(worlds, tmp_path_factory):
    """Return a run of a network that was never trained; not to be changed."""
    return load_runs([write_run(tmp_path_factory.mktemp('findings') / 'run', worlds)],
                     device='cpu')[0]


def test_one_pass_finds_what_each_measure_does(run):
    found = find(run.segmenter, run.samples, 'run')
    results = evaluate(run.segmenter, run.samples, progress=False)
    for name, each in found.domains.items():
        np.testing.assert_array_equal(each.result.confusion, results[name].confusion)
        # As many pixels are right by confidence as by class.
        right = np.nansum(each.reliability.accuracy * each.reliability.pixels)
        assert right == pytest.approx(np.trace(results[name].confusion[:, :-1]))
        assert each.reliability.pixels.sum() == results[name].confusion.sum()
    alone = measure_correspondences(run.segmenter, run.samples)
    assert found.correspondences.keys() == alone.keys()
    for pair, each in alone.items():
        for part in ('features', 'embedding', 'shares'):
            np.testing.assert_array_equal(getattr(found.correspondences[pair], part),
                                          getattr(each, part))


def test_each_image_has_its_own_score(run):
    scores = find(run.segmenter, {'outdoor': run.samples['outdoor']}, 'run')
    assert scores.correspondences is None
    assert scores.without == 'correspondences are between domains, and there is only outdoor'
    assert len(scores.domains['outdoor'].scores) == VALIDATION
    for each in scores.domains['outdoor'].scores:
        result = evaluate(run.segmenter, {'outdoor': [each.sample]}, progress=False)['outdoor']
        assert each.miou == result.miou


def test_cells_of_all_images_are_equally_likely():
    """Two images, one of 50 and one of 450 cells of a class: a tenth is of the first."""
    shares = []
    for seed in range(40):
        chosen = _ChosenCells(classes=2, stride=1)
        chosen._generator = np.random.default_rng(seed)
        for value, count in ((0, 50), (1, 450)):
            chosen.add(np.full((3, 1, count), value, np.float32), np.ones((1, count), np.uint8))
        cells = chosen.most_frequent()
        assert cells.vectors.shape == (PER_CLASS, 3)
        assert set(cells.labels) == {1}
        shares.append(1 - cells.vectors[:, 0].mean())
    assert np.mean(shares) == pytest.approx(0.1, abs=0.04)


def test_cells_of_the_most_frequent_classes_are_kept():
    chosen = _ChosenCells(classes=4, stride=2)
    label = np.full((4, 8), 255, np.uint8)
    label[:, :4] = 3
    label[:2, 4:6] = 1
    chosen.add(np.arange(8, dtype=np.float32).reshape(1, 2, 4), label)
    cells = chosen.most_frequent(1)
    assert sorted(cells.vectors.ravel()) == [0, 1, 4, 5]
    assert set(cells.labels) == {3}
    both = chosen.most_frequent()
    assert both.vectors[both.labels == 1].ravel().tolist() == [2]
    nothing = _ChosenCells(classes=4, stride=2).most_frequent()
    assert not len(nothing.labels)
