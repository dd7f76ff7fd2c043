"""The synthetic worlds: the same everywhere, exactly labelled, and hard for colour alone."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from univseg_core.demo.scenes import indoor, outdoor
from univseg_core.demo.scenes.worlds import render_scene, WORLDS, write_worlds
from univseg_core.measuring.baselines import pixel_values
from univseg_core.pictures.images import read_image, read_label
from univseg_core.settings.config import load_config

SCENES = 30
# What lies below the eye or above it, and so shows only below or above the horizon.
BELOW = {'outdoor': ('road', 'pavement', 'lane_marking'), 'indoor': ('floor',)}
ABOVE = {'outdoor': ('sky',), 'indoor': ('ceiling',)}
BUILD = {'outdoor': outdoor.build, 'indoor': indoor.build}

each_world = pytest.mark.parametrize('world', WORLDS)


@pytest.fixture(scope='module')
def scenes():
    """Return images (30, 180, 240, 3) and labels (30, 180, 240) of each world."""
    return {world: tuple(map(np.stack, zip(*(render_scene(world, seed) for seed in range(SCENES)),
                                           strict=True)))
            for world in WORLDS}


@each_world
def test_a_seed_decides_every_pixel(world):
    image, label = render_scene(world, 7, 120, 90)
    again, label_again = render_scene(world, 7, 120, 90)
    assert np.array_equal(image, again)
    assert np.array_equal(label, label_again)


def test_worlds_and_seeds_show_different_scenes(scenes):
    labels = np.concatenate([labels for _, labels in scenes.values()])
    assert len({label.tobytes() for label in labels}) == 2 * SCENES


@each_world
@pytest.mark.parametrize('width, height', [(240, 180), (97, 61), (33, 120), (1, 1)])
def test_any_size(world, width, height):
    image, label = render_scene(world, 3, width, height)
    assert image.shape == (height, width, 3)
    assert label.shape == (height, width)
    assert image.dtype == label.dtype == np.uint8


@each_world
def test_a_seed_shows_the_same_scene_in_any_size(world):
    large, small = (render_scene(world, 11, *size)[1] for size in ((240, 180), (80, 60)))
    centres = large[1::3, 1::3]  # of three by three pixels that make one
    other = render_scene(world, 12, 80, 60)[1]
    assert np.mean(centres == small) > 0.9 > np.mean(other == small)


@each_world
def test_every_class_is_frequent_enough_to_be_learned(scenes, world):
    _, labels = scenes[world]
    classes = len(WORLDS[world].classes)
    assert labels.max() < classes
    counts = np.stack([np.bincount(label.ravel(), minlength=classes) for label in labels])
    assert (counts.sum(0) / counts.sum()).min() > 0.015
    assert (counts > 50).mean(0).min() > 0.4


@each_world
def test_floors_lie_below_the_horizon_and_ceilings_above(scenes, world):
    """The horizon follows from the camera alone: where a pixel's ray is level."""
    _, labels = scenes[world]
    index = WORLDS[world].classes.index
    x, y = np.arange(240) - 119.5, np.arange(180) - 89.5
    seen = 0
    for seed, label in enumerate(labels):
        number = list(WORLDS).index(world)
        camera = BUILD[world](np.random.default_rng([number, seed])).camera
        focal = camera.focal * 240
        right, down, forward = camera.rotation[:, 1]  # how much each of them points upwards
        rise = (right * x + (down * y)[:, None] + forward * focal)  # in pixels
        below = np.isin(label, [index(name) for name in BELOW[world]])
        above = np.isin(label, [index(name) for name in ABOVE[world]])
        assert rise[below].max(initial=-9) < 2
        assert rise[above].min(initial=9) > -2
        seen += below.any() and above.any()
    assert seen > SCENES / 2


@each_world
def test_label_edges_are_image_edges(scenes, world):
    """A label moved by a pixel or more fits the picture's edges worse."""
    images, labels = scenes[world]
    grey = images.mean(-1)
    steps = np.abs(np.diff(grey, axis=2))[:, 8:-8]
    edges = (np.diff(labels.astype(int), axis=2) != 0)[:, 8:-8]

    def contrast(dx, dy):
        return steps[np.roll(edges, (dy, dx), (1, 2))].mean()

    moves = [(dx, dy) for dx in (-4, -2, -1, 0, 1, 2, 4) for dy in (-4, -2, 0, 2, 4)]
    assert max(moves, key=lambda move: contrast(*move)) == (0, 0)
    assert contrast(0, 0) > 3 * steps[~edges].mean()


@each_world
def test_colour_and_location_say_little(scenes, world):
    """A random forest that learns from half of the scenes stays far from the truth."""
    rng = np.random.default_rng(0)
    values = np.stack([pixel_values(image) for image in scenes[world][0]])
    targets = scenes[world][1].reshape(SCENES, -1)
    chosen = rng.choice(targets.shape[1], 600, replace=False)
    values, targets = values[:, chosen], targets[:, chosen]
    half = SCENES // 2
    forest = RandomForestClassifier(20, min_samples_leaf=5, random_state=0)
    forest.fit(values[:half].reshape(-1, 8), targets[:half].ravel())
    guess, truth = forest.predict(values[half:].reshape(-1, 8)), targets[half:].ravel()
    ious = [np.sum((guess == c) & (truth == c)) / np.sum((guess == c) | (truth == c))
            for c in range(len(WORLDS[world].classes))]
    assert 0.1 < np.mean(ious) < 0.4  # by chance below 0.1


def test_an_unknown_world_is_named_with_those_there_are():
    with pytest.raises(ValueError, match="no world 'moon': expected one of outdoor, indoor"):
        render_scene('moon', 0)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_written_worlds(tmp_path):
    write_worlds(tmp_path, train=5, validation=2, labelled=3, width=64, height=48, progress=False)
    expected = []
    for world in WORLDS:
        expected += [f'{world}/classes.txt']
        for part, count, kinds in (('train', 3, ('image', 'label')), ('unlabelled', 2, ('image',)),
                                   ('validation', 2, ('image', 'label'))):
            expected += [f'{world}/{part}/{kind}/{i:06}.png' for kind in kinds
                         for i in range(count)]
    assert files(tmp_path) == sorted(expected)
    for world, domain in WORLDS.items():
        assert (tmp_path / world / 'classes.txt').read_text().split() == list(domain.classes)
        image, label = render_scene(world, 1, 64, 48)
        train = tmp_path / world / 'train'
        assert np.array_equal(read_image(train / 'image/000001.png'), image)
        assert np.array_equal(read_label(train / 'label/000001.png', domain), label)


def test_no_image_is_in_two_splits_or_under_two_seeds(tmp_path):
    for seed in (0, 1):
        write_worlds(tmp_path / str(seed), train=4, validation=4, labelled=2, seed=seed, width=48,
                     height=36, progress=False)
    images = [path.read_bytes() for path in tmp_path.rglob('image/*.png')]
    assert len(set(images)) == len(images) == 2 * 2 * 8


def test_all_training_images_are_labelled_unless_told(tmp_path):
    write_worlds(tmp_path, train=2, validation=1, width=32, height=24, progress=False)
    assert len(list(tmp_path.glob('*/train/label/*.png'))) == 2 * 2
    assert not list(tmp_path.glob('*/unlabelled'))


def test_fewer_training_images_than_labels_asked_for_are_all_labelled(tmp_path):
    write_worlds(tmp_path, train=1, validation=1, labelled=9, width=32, height=24, progress=False)
    assert len(list(tmp_path.glob('*/train/label/*.png'))) == 2
    assert not list(tmp_path.glob('*/unlabelled'))


def test_worlds_are_not_mixed_with_older_ones(tmp_path):
    write_worlds(tmp_path, train=2, validation=1, width=32, height=24, progress=False)
    before = files(tmp_path)
    with pytest.raises(ValueError, match='outdoor is already there'):
        write_worlds(tmp_path, train=1, validation=1, width=32, height=24, progress=False)
    assert files(tmp_path) == before


@pytest.mark.parametrize('world', WORLDS)
def test_the_shipped_configuration_shows_the_worlds_in_their_own_colours(
        tmp_path, monkeypatch, world):
    write_worlds(tmp_path, train=2, labelled=1, validation=1, width=32, height=24, progress=False)
    monkeypatch.setenv('UNIVSEG_DATA', str(tmp_path))
    assert load_config('train/scenes.yaml').domain(world) == WORLDS[world]
