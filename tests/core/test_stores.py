"""Images in memory or on disk: the same crops, each held once, and only where they fit."""

from dataclasses import replace
import pickle
import shutil

import numpy as np
import pytest
from tiny_worlds import HEIGHT, INDOOR, OUTDOOR, random_image, WIDTH
import torch
from univseg_core.batches import stores as stores_module
from univseg_core.batches.curriculum import Curriculum
from univseg_core.batches.dataset import DomainData
from univseg_core.batches.mixture import MixtureDataset
from univseg_core.batches.stores import ImageStore, prepare_stores
from univseg_core.batches.transforms import Augmentation
from univseg_core.datasets.folders import DataError, labelled_samples, read_sample, Sample
from univseg_core.pictures.images import ImageError, write_png

PIXELS = HEIGHT * WIDTH
LABELLED = 3


@pytest.fixture
def folder(worlds, tmp_path):
    """Return a copy of the worlds that a test may spoil."""
    return shutil.copytree(worlds, tmp_path / 'worlds')


@pytest.fixture
def data(folder):
    """Return both domains' data: 3 images labelled, all 8 unlabelled."""
    result = {}
    for domain in (OUTDOOR, INDOOR):
        train = folder / domain.name / 'train'
        samples = labelled_samples(train / 'image', train / 'label')
        result[domain.name] = DomainData(domain, samples[:LABELLED],
                                         [Sample(sample.image) for sample in samples], [])
    return result


@pytest.fixture
def memory(monkeypatch):
    """Return a function that sets the bytes of available memory."""
    return lambda size: monkeypatch.setattr(stores_module, 'available_memory', lambda: size)


@pytest.fixture
def told(monkeypatch):
    """Return the list of what is logged from now on."""
    messages = []
    # Not caplog: where launch is installed, its loggers do not propagate.
    monkeypatch.setattr(stores_module.log, 'info', lambda text, *values: messages.append(
        text % values))
    return messages


def items(stores):
    return [store[i] for part in (stores.labelled, stores.unlabelled) for store in part.values()
            for i in range(len(store))]


def assert_equal(some, others):
    for pair, other in zip(some, others, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(pair, other, strict=True))


@pytest.mark.parametrize(('image_size', 'shape'), [
    (None, (HEIGHT, WIDTH)), (32, (24, 32)), (128, (96, 128))])
def test_a_store_gives_images_at_the_training_size(data, image_size, shape):
    samples = data['outdoor'].labelled
    store = ImageStore(samples, OUTDOOR, image_size)
    assert len(store) == len(samples)
    image, label = store[1]
    assert image.shape == (*shape, 3)
    assert label.shape == shape
    expected_image, expected_label = read_sample(samples[1], OUTDOOR)
    if image_size is None:
        assert np.array_equal(image, expected_image)
    assert set(np.unique(label)) <= set(np.unique(expected_label))


def test_an_unlabelled_sample_has_a_label_of_zeros(data):
    image, label = ImageStore(data['outdoor'].unlabelled, OUTDOOR, 32)[0]
    assert label.shape == image.shape[:2] == (24, 32)
    assert label.dtype == np.uint8
    assert not label.any()


def test_a_label_map_of_another_size_is_named(data, tmp_path):
    write_png(tmp_path / 'small.png', np.zeros((24, 32), np.uint8))
    sample = replace(data['outdoor'].labelled[0], label=tmp_path / 'small.png')
    with pytest.raises(DataError, match=r'small\.png: the label map is 32×24, its image 64×48'):
        ImageStore([sample], OUTDOOR, None)[0]


@pytest.mark.parametrize('image_size', [None, 32])
def test_memory_and_disk_give_the_same(data, memory, image_size):
    memory(10**9)
    held = prepare_stores(data, image_size)
    memory(0)
    read = prepare_stores(data, image_size)
    assert held.in_memory
    assert not read.in_memory
    assert list(held.labelled) == list(held.unlabelled) == ['outdoor', 'indoor']
    assert_equal(items(held), items(read))
    assert len(items(held)) == 2 * (LABELLED + 8)


def test_what_is_held_is_not_read_again(data, folder, memory):
    memory(10**9)
    stores = prepare_stores(data, None)
    before = items(stores)
    shutil.rmtree(folder)
    assert_equal(items(stores), before)


def test_what_is_not_held_is_read_each_time(data, memory):
    memory(0)
    store = prepare_stores(data, None).labelled['outdoor']
    first = store[0]
    assert store.memory == {}
    write_png(store.samples[0].image, random_image(HEIGHT, WIDTH, 99))
    assert not np.array_equal(store[0][0], first[0])


def test_an_image_that_is_labelled_and_unlabelled_is_held_once(data, memory):
    memory(10**9)
    stores = prepare_stores(data, None)
    for name, d in data.items():
        labelled, unlabelled = stores.labelled[name], stores.unlabelled[name]
        assert labelled.memory is unlabelled.memory
        assert set(labelled.memory) == {sample.image for sample in d.unlabelled}
        for i in range(LABELLED):
            assert labelled[i][0] is unlabelled[i][0]
            assert labelled[i][1].any()
            assert not unlabelled[i][1].any()
        held = [array for arrays in labelled.memory.values() for array in arrays
                if array is not None]
        assert sum(array.nbytes for array in held) == (8 * 3 + LABELLED) * PIXELS


def test_without_unlabelled_images_none_are_prepared(data, memory):
    memory(10**9)
    stores = prepare_stores(data, None, unlabelled=False)
    assert stores.unlabelled == {}
    assert len(stores.labelled['indoor'].memory) == LABELLED
    alone = {'indoor': replace(data['indoor'], unlabelled=[])}
    assert prepare_stores(alone, None).unlabelled == {}


NEED = 2 * (8 * 3 + LABELLED) * PIXELS


@pytest.mark.parametrize('processes', [1, 3])
def test_images_may_take_half_of_the_available_memory(data, memory, processes):
    memory(2 * NEED * processes)
    assert prepare_stores(data, None, processes=processes).in_memory
    memory(2 * NEED * processes - 1)
    assert not prepare_stores(data, None, processes=processes).in_memory


def test_the_decision_is_told_in_one_line(data, memory, told, monkeypatch):
    memory(18.24e9)
    prepare_stores(data, 32)
    assert told == ['images: 16 decoded at 32×24 need 0.00 GB of 18.2 GB available memory: '
                    'kept in memory']
    told.clear()
    monkeypatch.setattr(stores_module, 'MEMORY_SHARE', 0)
    prepare_stores(data, None, processes=4)
    assert told == ['images: 16 decoded at 64×48 need 4 × 0.00 GB of 18.2 GB available memory: '
                    'read from disk every time']


def test_images_that_are_larger_than_the_first_are_let_go_in_time(data, memory, told):
    write_png(data['indoor'].unlabelled[5].image, random_image(10 * HEIGHT, 10 * WIDTH))
    memory(2 * NEED + 100)
    stores = prepare_stores(data, None)
    assert not stores.in_memory
    assert all(store.memory == {} for store in stores.labelled.values())
    assert len(told) == 2
    assert told[1].endswith('read from disk every time')
    assert items(stores)[-3][0].shape == (10 * HEIGHT, 10 * WIDTH, 3)


@pytest.mark.parametrize('damaged', [0, 1])
def test_a_damaged_file_is_no_error_before_it_is_asked_for(data, memory, damaged):
    memory(10**9)
    sample = data['outdoor'].labelled[damaged]
    sample.image.write_bytes(b'no image')
    stores = prepare_stores(data, None)
    assert stores.in_memory
    assert len(stores.labelled['outdoor'].memory) == 7
    for store in (stores.labelled['outdoor'], stores.unlabelled['outdoor']):
        with pytest.raises(ImageError, match=f'{sample.image}: not a readable image'):
            store[damaged]
        store[2]


@pytest.mark.parametrize('available', [10**9, 0])
def test_unlabelled_images_that_cannot_be_read_are_left_out_named_and_counted(
        data, memory, monkeypatch, available):
    told = []
    monkeypatch.setattr(stores_module.log, 'warning', lambda text, *values: told.append(
        text % values))
    memory(available)
    lost = [data['outdoor'].unlabelled[index].image for index in (4, 6)]
    lost[0].write_bytes(lost[0].read_bytes()[:-20])
    lost[1].unlink()
    stores = prepare_stores(data, None)
    store = stores.unlabelled['outdoor']
    assert len(store) == 8  # each keeps its place
    assert set(store.left_out) == set(lost)
    [message] = told
    assert message.startswith('outdoor: 2 of 8 unlabelled images cannot be read, and are left '
                              f'out:\n  {lost[0]}: not a readable image (a truncated PNG)\n'
                              f'  {lost[1]}: ')
    lost[0].write_bytes(store.samples[5].image.read_bytes())
    with pytest.raises(ImageError, match=f'{lost[0]}: '):  # the run stays as it began
        store[4]
    assert len(stores.faults(data)) == len(stores.faults(['outdoor'])) == 2
    assert stores.faults(['indoor']) == []
    mixture = MixtureDataset({}, stores.unlabelled, Curriculum((Augmentation(32),)), 1, 8, seed=0)
    assert len(mixture[0][0].images) == 16


@pytest.mark.parametrize(('each', 'error'), [
    (range(3, 6), r'^6 of 16 images could not be read; more than 4 are too many:'),
    (range(8), r'^domains\.outdoor: none of its unlabelled images can be read')])
def test_where_too_many_cannot_be_read_nothing_begins(data, memory, each, error):
    memory(0)
    for d in data.values():
        for index in each:
            d.unlabelled[index].image.write_bytes(b'')
    data = {name: replace(d, labelled=[]) for name, d in data.items()}
    with pytest.raises(DataError, match=error):
        prepare_stores(data, None)


def test_an_images_damaged_label_leaves_the_image_to_the_unlabelled(data, memory):
    memory(10**9)
    data['outdoor'].labelled[1].label.unlink()
    stores = prepare_stores(data, None)
    with pytest.raises(ImageError, match=r'label/01\.png'):
        stores.labelled['outdoor'][1]
    assert not stores.unlabelled['outdoor'][1][1].any()


def test_a_worker_that_is_not_forked_reads_the_files(data, memory):
    """A copy of the memory for each worker could be more than there is."""
    memory(10**9)
    stores = prepare_stores(data, None)
    sent = pickle.dumps(stores.labelled['outdoor'])
    assert len(sent) < PIXELS
    arrived = pickle.loads(sent)
    assert_equal([arrived[i] for i in range(LABELLED)],
                 [stores.labelled['outdoor'][i] for i in range(LABELLED)])


@pytest.mark.parametrize('workers', [0, 1])
def test_batches_do_not_depend_on_where_images_are(data, memory, workers):
    def batches(available):
        memory(available)
        stores = prepare_stores(data, 48)
        crops = Curriculum((Augmentation(32, (0.75, 1.5), True, 0.3),))
        mixture = MixtureDataset(stores.labelled, stores.unlabelled, crops, 2, 3, seed=4)
        return list(mixture.batches(0, 4, workers))

    for [held], [read] in zip(batches(10**9), batches(0), strict=True):
        assert torch.equal(held.images, read.images)
        assert torch.equal(held.targets, read.targets)
