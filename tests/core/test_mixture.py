"""The stream of batches: fixed rows, decided by seed and step alone, each image once an epoch."""

import numpy as np
import pytest
from tiny_worlds import HEIGHT, OUTDOOR, random_image, WIDTH
import torch
from univseg_core.data import mixture
from univseg_core.data.folders import DataError, labelled_samples, read_sample, Sample
from univseg_core.data.mixture import ImageStore, MixtureDataset
from univseg_core.data.transforms import Augmentation
from univseg_core.images import ImageError, write_png

SIDE = 32
AS_IT_IS = Augmentation(SIDE)
RANDOM = Augmentation(SIDE, (0.5, 1.5), flip=True, colour=0.3)
# A store is anything with a length and items; here an image tells which one it is.
LABELLED = {'outdoor': range(10, 15), 'indoor': range(20, 26)}
UNLABELLED = {'outdoor': range(30, 37), 'indoor': range(40, 43)}


def stores(parts, labelled, size=SIDE):
    return {name: [(np.full((size, size, 3), value, np.uint8),
                    np.full((size, size), value if labelled else 0, np.uint8))
                   for value in values] for name, values in parts.items()}


def dataset(seed=0, augmentation=AS_IT_IS, counts=(2, 3), size=SIDE):
    return MixtureDataset(stores(LABELLED, True, size), stores(UNLABELLED, False, size),
                          augmentation, *counts, seed)


def assert_equal(batch, other):
    assert torch.equal(batch.images, other.images)
    assert torch.equal(batch.targets, other.targets)
    assert batch.labelled == other.labelled
    assert batch.unlabelled == other.unlabelled


def test_every_batch_has_its_crops_in_the_documented_rows():
    batches = dataset()
    for step in range(10):
        batch = batches[step]
        assert batch.images.shape == (10, 3, SIDE, SIDE)
        assert batch.targets.shape == (10, SIDE, SIDE)
        assert batch.labelled == {'outdoor': slice(0, 2), 'indoor': slice(2, 4)}
        assert batch.unlabelled == {'outdoor': slice(4, 7), 'indoor': slice(7, 10)}
        for name, rows in batch.labelled.items():
            assert torch.equal(batch.images[rows, 0], batch.targets[rows])
            assert set(batch.targets[rows].flatten().tolist()) <= set(LABELLED[name])
        for name, rows in batch.unlabelled.items():
            assert set(batch.images[rows].flatten().tolist()) <= set(UNLABELLED[name])
            assert not batch.targets[rows].any()


def test_images_are_planes_in_memory():
    """channels_last images crash oneDNN's convolutions of few channels on some CPUs."""
    batch = dataset(augmentation=RANDOM)[0]
    assert batch.images.dtype == batch.targets.dtype == torch.uint8
    assert batch.images.stride() == (3 * SIDE * SIDE, SIDE * SIDE, SIDE, 1)


@pytest.mark.parametrize('counts', [(1, 1), (2, 3), (4, 5)])
def test_an_epoch_visits_every_image_once(counts):
    batches = dataset(counts=counts)
    for part, sources in (('labelled', LABELLED), ('unlabelled', UNLABELLED)):
        for name, values in sources.items():
            seen = []
            while len(seen) < 3 * len(values):
                batch = batches[len(seen) // counts[part == 'unlabelled']]
                seen += batch.images[getattr(batch, part)[name], 0, 0, 0].tolist()
            epochs = [seen[i:i + len(values)] for i in range(0, 3 * len(values), len(values))]
            assert [sorted(epoch) for epoch in epochs] == 3 * [list(values)]


def test_epochs_have_different_orders():
    batches = dataset(counts=(5, 7))
    orders = {tuple(batches[step].images[:5, 0, 0, 0].tolist()) for step in range(6)}
    assert len(orders) > 3


@pytest.mark.parametrize('workers', [0, 1])
def test_a_batch_depends_on_seed_and_step_alone(workers):
    expected = [dataset(3, RANDOM, size=60)[step] for step in range(6)]
    backwards = dataset(3, RANDOM, size=60)
    for step in reversed(range(6)):
        assert_equal(backwards[step], expected[step])
    streamed = list(dataset(3, RANDOM, size=60).batches(2, 6, workers))
    assert len(streamed) == 4
    for batch, other in zip(streamed, expected[2:], strict=True):
        assert_equal(batch, other)


def test_seeds_and_steps_differ():
    images = [dataset(seed, RANDOM, size=60)[step].images for seed in (0, 1) for step in (0, 1)]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(images[i], images[j])


def test_crops_of_one_image_differ_from_epoch_to_epoch():
    image = random_image(64, 64), np.zeros((64, 64), np.uint8)
    batches = MixtureDataset({'a': [image]}, {}, AS_IT_IS, 1, 1, 0)
    assert len({batches[step].images.numpy().tobytes() for step in range(8)}) > 5


def test_without_unlabelled_images_a_batch_is_labelled_alone():
    batches = MixtureDataset(stores(LABELLED, True), {}, AS_IT_IS, 2, 3, 0)
    assert batches[0].images.shape[0] == 4
    assert batches[0].unlabelled == {}


def test_padding_is_void_in_labelled_and_unlabelled_rows():
    batch = dataset(size=20)[0]
    assert (batch.targets[:, 20:] == 255).all()
    assert (batch.targets[:, :, 20:] == 255).all()
    assert (batch.targets[:, :20, :20] != 255).all()


@pytest.fixture
def samples(worlds):
    folder = worlds / 'outdoor' / 'train'
    return labelled_samples(folder / 'image', folder / 'label')


@pytest.mark.parametrize(('image_size', 'shape'), [
    (None, (HEIGHT, WIDTH)), (32, (24, 32)), (128, (96, 128))])
def test_a_store_holds_images_at_the_training_size(samples, image_size, shape):
    store = ImageStore(samples, OUTDOOR, image_size)
    assert len(store) == len(samples)
    image, label = store[1]
    assert image.shape == (*shape, 3)
    assert label.shape == shape
    expected_image, expected_label = read_sample(samples[1], OUTDOOR)
    if image_size is None:
        assert np.array_equal(image, expected_image)
    assert set(np.unique(label)) <= set(np.unique(expected_label))


def test_a_store_reads_a_file_once(tmp_path):
    write_png(tmp_path / 'a.png', random_image(8, 8))
    store = ImageStore([Sample(tmp_path / 'a.png')], OUTDOOR, None)
    first = store[0]
    (tmp_path / 'a.png').unlink()
    assert store[0] is first


def test_a_store_of_more_than_the_memory_reads_again(samples, monkeypatch):
    monkeypatch.setattr(mixture, 'CACHE_LIMIT', 3 * 4 * HEIGHT * WIDTH)
    store = ImageStore(samples, OUTDOOR, None)
    first, again = ([store[i] for i in range(len(store))] for _ in range(2))
    kept = [a is b for a, b in zip(first, again, strict=True)]
    assert kept == [True] * 3 + [False] * (len(samples) - 3)
    assert all(np.array_equal(x, y)
               for a, b in zip(first, again, strict=True) for x, y in zip(a, b, strict=True))


def test_an_unlabelled_sample_has_a_label_of_zeros(samples):
    image, label = read_sample(Sample(samples[0].image), OUTDOOR)
    assert label.shape == image.shape[:2]
    assert not label.any()


def test_a_label_map_of_another_size_is_named(samples, tmp_path):
    write_png(tmp_path / 'small.png', np.zeros((24, 32), np.uint8))
    with pytest.raises(DataError, match=r'small\.png: the label map is 32×24, its image 64×48'):
        read_sample(Sample(samples[0].image, tmp_path / 'small.png'), OUTDOOR)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_damaged_file_is_told_by_its_name_alone(tmp_path, workers):
    path = tmp_path / 'damaged.png'
    path.write_bytes(b'no image')
    store = ImageStore([Sample(path)], OUTDOOR, None)
    mixture = MixtureDataset({'outdoor': store}, {}, Augmentation(8), 1, 1, seed=0)
    with pytest.raises(ImageError) as error:
        next(mixture.batches(0, 1, workers))
    assert str(error.value) == f'{path}: not a readable image (damaged, or of an unknown format)'
