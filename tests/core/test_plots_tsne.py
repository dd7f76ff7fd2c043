"""Which cells are chosen, what the network makes of them, and what is drawn."""

from figure_runs import write_run
import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR
from univseg_core.datasets.folders import read_sample
from univseg_core.measuring.finished_runs import load_runs
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.cells import (
    cell_classes,
    cell_vectors,
    Cells,
    choose_cells,
    class_maps,
    frequent_classes,
    named_classes,
)
from univseg_core.reporting.plots.drawing import FigureError
from univseg_core.reporting.plots.tsne import draw_tsne, project

VOID = 255


def test_a_cell_has_a_class_where_nine_in_ten_pixels_do():
    """Of 64 pixels, 58 are 90.6 %, 57 are 89.1 %; a cell at the border has fewer pixels."""
    label = np.zeros((8, 28), np.uint8)
    label[:, 8:16] = 1
    label.reshape(-1)[:6] = 1           # cell 0: 58 of class 0
    label[0, 8:15] = 2                  # cell 1: 57 of class 1
    label[:, 16:24] = VOID              # cell 2; cell 3 has half its pixels
    assert cell_classes(label, 3, 8).tolist() == [[0, VOID, VOID, VOID]]


def maps():
    """Return two images' maps: class 0 has 5 cells, class 1 has 3, class 2 has 1."""
    return [np.array([[0, 0, 1], [VOID, 1, 0]], np.uint8), np.array([[1, 0, 0, 2]], np.uint8)]


def test_as_many_of_each_class_as_there_are_or_as_are_asked_for():
    cells = choose_cells(maps(), [0, 1, 2], 3)
    assert np.bincount(cells.label).tolist() == [3, 3, 1]
    places = list(zip(cells.image, cells.row, cells.column, cells.label, strict=True))
    assert len(set(places)) == 7
    assert all(maps()[i][row, column] == label for i, row, column, label in places)
    assert (np.diff(cells.image) >= 0).all()


def test_which_cells_hangs_on_seed_and_class_alone():
    def of(classes, seed):
        cells = choose_cells([np.zeros((20, 20), np.uint8), np.ones((20, 20), np.uint8)], classes,
                             9, seed)
        return {tuple(map(int, place)) for place in zip(
            cells.image, cells.row, cells.column, strict=True) if place[0] == 0}

    assert of([0], 0) == of([0, 1], 0) == of([0], 0)
    assert of([0], 0) != of([0], 1)
    assert len(of([0], 0)) == 9


def test_all_cells_of_a_class_are_equally_likely():
    """One of 4 cells, 400 times: each 100 times on average, with a deviation of 8.7."""
    map_of_two = [np.zeros((1, 1), np.uint8), np.zeros((1, 3), np.uint8)]
    counts = np.zeros(4)
    for seed in range(400):
        cells = choose_cells(map_of_two, [0], 1, seed)
        counts[cells.image[0] + cells.column[0]] += 1
    assert (np.abs(counts - 100) < 5 * 8.7).all()


def test_the_most_frequent_classes():
    assert frequent_classes(maps(), 2) == [0, 1]
    assert frequent_classes(maps(), 9) == [0, 1, 2]
    assert frequent_classes([np.full((4, 4), VOID, np.uint8)], 3) == []


def test_classes_by_name_in_every_domain_that_has_them():
    domains = {'outdoor': OUTDOOR, 'indoor': INDOOR}
    assert named_classes(domains, ['ball', 'wall', 'ground']) == {'outdoor': [0, 2],
                                                                  'indoor': [0]}
    assert named_classes(domains, ['lamp']) == {'indoor': [1]}
    with pytest.raises(FigureError, match="no domain has a class 'road'; they have outdoor: "
                       'ground, box, ball; indoor: wall, lamp'):
        named_classes(domains, ['lamp', 'road'])


@pytest.fixture(scope='module')
def runs(worlds, tmp_path_factory):
    """Return two runs; not to be changed."""
    folder = tmp_path_factory.mktemp('figures')
    return load_runs([write_run(folder / f'run_{seed}', worlds, seed=seed) for seed in (0, 1)],
                     device='cpu')


@pytest.mark.parametrize('space', ['features', 'embedding'])
def test_vectors_are_those_of_the_chosen_cells(runs, space):
    run = runs[0]
    cells = Cells(*np.array([[0, 0, 2], [1, 5, 3], [2, 0, 7], [0, 1, 1]]))
    vectors = cell_vectors(run, 'outdoor', cells, space)
    for i, vector in enumerate(vectors):
        image, _ = read_sample(run.samples['outdoor'][cells.image[i]], OUTDOOR)
        encoded = run.segmenter.encode(image)
        shown = encoded.features if space == 'features' else run.segmenter.embed(encoded)
        np.testing.assert_array_equal(vector, shown[:, cells.row[i], cells.column[i]])


def test_maps_are_of_the_networks_size(runs):
    """The images are 48×64, and so is what the network sees: 6×8 cells."""
    run = runs[0]
    for sample, each in zip(run.samples['indoor'], class_maps(run, 'indoor'), strict=True):
        np.testing.assert_array_equal(each, cell_classes(read_sample(sample, INDOOR)[1], 2, 8))
        assert each.shape == (6, 8)


def test_clusters_far_apart_stay_apart():
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(40, 5)) + np.repeat([[0], [100]], 20, axis=0)
    places = project(vectors.astype(np.float32))
    assert places.shape == (40, 2)
    middles = places[:20].mean(0), places[20:].mean(0)
    own = np.linalg.norm(places - np.repeat(middles, 20, axis=0), axis=1)
    other = np.linalg.norm(places - np.repeat(middles[::-1], 20, axis=0), axis=1)
    assert (own < other).all()
    np.testing.assert_array_equal(places, project(vectors.astype(np.float32)))


def test_what_has_no_tsne_is_told():
    with pytest.raises(FigureError, match='3 pixels: expected four at least'):
        project(np.eye(3))
    with pytest.raises(FigureError, match='all pixels have the same vector'):
        project(np.ones((9, 4)))


def test_a_panel_for_each_run_in_the_masks_colours(runs, tmp_path, drawn):
    paths = draw_tsne(runs, tmp_path / 'tsne', per_class=5)
    assert [path.name for path in paths] == ['tsne.png', 'tsne.svg']
    assert read_image(paths[0]).std() > 0
    figure, = drawn
    assert [axis.get_title() for axis in figure.axes] == ['run_0', 'run_1']
    for axis in figure.axes:
        for points, domain in zip(axis.collections, (OUTDOOR, INDOOR), strict=True):
            colours = np.round(255 * points.get_facecolors()[:, :3]).astype(int)
            assert set(map(tuple, colours.tolist())) == set(domain.palette)
            assert len(colours) <= 5 * len(domain.classes)
    outdoor, indoor = (points.get_paths()[0].vertices for points in figure.axes[0].collections)
    assert len(outdoor) != len(indoor)  # another marker
    legends = {legend.get_title().get_text(): [text.get_text() for text in legend.get_texts()]
               for legend in figure.legends}
    assert legends == {'● outdoor': ['ground', 'box', 'ball'], '▲ indoor': ['wall', 'lamp']}
    assert {text.get_text() for text in figure.axes[0].texts} == {
        '● ground', '● box', '● ball', '▲ wall', '▲ lamp'}


@pytest.mark.usefixtures('unsaved')
def test_no_more_classes_than_were_named(runs, tmp_path, drawn):
    draw_tsne(runs[:1], tmp_path / 'tsne', space='embedding', names=['ground', 'wall'],
              per_class=4)
    axis, = drawn[0].axes
    assert [len(points.get_offsets()) for points in axis.collections] == [4, 4]
    assert drawn[0].texts[0].get_text() == 't-SNE of the embedding'


def test_runs_of_other_domains_are_told(runs, worlds, tmp_path):
    one, = load_runs([write_run(tmp_path / 'one', worlds, domains=(INDOOR,))], device='cpu')
    with pytest.raises(FigureError, match='one has the domains indoor, run_0 outdoor, indoor: '
                       'expected the same'):
        draw_tsne([runs[0], one], tmp_path / 'tsne')
    assert not list(tmp_path.glob('tsne*'))


def test_a_class_without_a_cell_is_told(runs, tmp_path, monkeypatch):
    without = [np.where(each == 2, VOID, each) for each in class_maps(runs[0], 'outdoor')]
    monkeypatch.setattr('univseg_core.reporting.plots.tsne.class_maps', lambda *_: without)
    with pytest.raises(FigureError, match='run_0: no validation image of outdoor has a cell that '
                       'is of ball to 90%'):
        draw_tsne(runs[:1], tmp_path / 'tsne', names=['ball', 'wall'])
    monkeypatch.setattr('univseg_core.reporting.plots.tsne.class_maps',
                        lambda *_: [np.full((6, 8), VOID, np.uint8)])
    with pytest.raises(FigureError, match='of one class'):
        draw_tsne(runs[:1], tmp_path / 'tsne')


def test_a_collapsed_embedding_is_told_with_its_run(runs, tmp_path, monkeypatch):
    monkeypatch.setattr('univseg_core.reporting.plots.tsne.cell_vectors',
                        lambda run, name, cells, space: np.ones((len(cells.label), 8)))
    with pytest.raises(FigureError, match='run_0, the embedding: all pixels have the same'):
        draw_tsne(runs, tmp_path / 'tsne', space='embedding')
