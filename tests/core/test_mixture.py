"""The stream of batches: fixed rows, decided by seed and step alone, each image once an epoch."""

import os
import signal

import cv2
import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR, random_image
import torch
from univseg_core.batches.curriculum import Curriculum
from univseg_core.batches.cut_mix import (
    AREA,
    cut_mix,
    CutMix,
    mixing_groups,
    partners_of,
    random_box,
)
from univseg_core.batches.mixture import Batch, MixtureDataset
from univseg_core.batches.stores import ImageStore
from univseg_core.batches.transforms import Augmentation
from univseg_core.datasets.folders import DataError, Sample
from univseg_core.pictures.images import ImageError, write_png

SIDE = 32
AS_IT_IS = Curriculum((Augmentation(SIDE),))
RANDOM = Curriculum((Augmentation(SIDE, (0.5, 1.5), flip=True, colour=0.3),))
# A store is anything with a length and items; here an image tells which one it is.
LABELLED = {'outdoor': range(10, 15), 'indoor': range(20, 26)}
UNLABELLED = {'outdoor': range(30, 37), 'indoor': range(40, 43)}


def stores(parts, labelled, size=SIDE):
    return {name: [(np.full((size, size, 3), value, np.uint8),
                    np.full((size, size), value if labelled else 0, np.uint8))
                   for value in values] for name, values in parts.items()}


def dataset(seed=0, augmentation=AS_IT_IS, counts=(2, 3), size=SIDE, **sharing):
    return MixtureDataset(stores(LABELLED, True, size), stores(UNLABELLED, False, size),
                          augmentation, *counts, seed, **sharing)


def whole(mixture, step):
    """Return the one batch of a mixture that is not shared."""
    [batch] = mixture[step]
    return batch


def assert_equal(batch, other):
    assert torch.equal(batch.images, other.images)
    assert torch.equal(batch.targets, other.targets)
    assert batch.labelled == other.labelled
    assert batch.unlabelled == other.unlabelled


def test_every_batch_has_its_crops_in_the_documented_rows():
    batches = dataset()
    for step in range(10):
        batch = whole(batches, step)
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
    batch = whole(dataset(augmentation=RANDOM), 0)
    assert batch.images.dtype == batch.targets.dtype == torch.uint8
    assert batch.images.stride() == (3 * SIDE * SIDE, SIDE * SIDE, SIDE, 1)


@pytest.mark.parametrize('counts', [(1, 1), (2, 3), (4, 5)])
def test_an_epoch_visits_every_image_once(counts):
    batches = dataset(counts=counts)
    for part, sources in (('labelled', LABELLED), ('unlabelled', UNLABELLED)):
        for name, values in sources.items():
            seen = []
            while len(seen) < 3 * len(values):
                batch = whole(batches, len(seen) // counts[part == 'unlabelled'])
                seen += batch.images[getattr(batch, part)[name], 0, 0, 0].tolist()
            epochs = [seen[i:i + len(values)] for i in range(0, 3 * len(values), len(values))]
            assert [sorted(epoch) for epoch in epochs] == 3 * [list(values)]


def test_epochs_have_different_orders():
    batches = dataset(counts=(5, 7))
    orders = {tuple(whole(batches, step).images[:5, 0, 0, 0].tolist()) for step in range(6)}
    assert len(orders) > 3


@pytest.mark.parametrize('workers', [0, 1])
def test_a_batch_depends_on_seed_and_step_alone(workers):
    expected = [whole(dataset(3, RANDOM, size=60), step) for step in range(6)]
    backwards = dataset(3, RANDOM, size=60)
    for step in reversed(range(6)):
        assert_equal(whole(backwards, step), expected[step])
    streamed = list(dataset(3, RANDOM, size=60).batches(2, 6, workers))
    assert len(streamed) == 4
    for pieces, other in zip(streamed, expected[2:], strict=True):
        [batch] = pieces
        assert_equal(batch, other)


def test_seeds_and_steps_differ():
    images = [whole(dataset(seed, RANDOM, size=60), step).images
              for seed in (0, 1) for step in (0, 1)]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(images[i], images[j])


def test_crops_of_one_image_differ_from_epoch_to_epoch():
    image = random_image(64, 64), np.zeros((64, 64), np.uint8)
    batches = MixtureDataset({'a': [image]}, {}, AS_IT_IS, 1, 1, 0)
    assert len({whole(batches, step).images.numpy().tobytes() for step in range(8)}) > 5


def test_without_unlabelled_images_a_batch_is_labelled_alone():
    batches = MixtureDataset(stores(LABELLED, True), {}, AS_IT_IS, 2, 3, 0)
    assert whole(batches, 0).images.shape[0] == 4
    assert whole(batches, 0).unlabelled == {}


def test_padding_is_void_in_labelled_and_unlabelled_rows():
    batch = whole(dataset(size=20), 0)
    assert (batch.targets[:, 20:] == 255).all()
    assert (batch.targets[:, :, 20:] == 255).all()
    assert (batch.targets[:, :20, :20] != 255).all()


@pytest.mark.parametrize(('of', 'workers'), [
    (1, 0), (2, 0), (3, 0), (3, 1), (4, 0), (7, 0), (10, 0)])
def test_the_pieces_together_are_the_whole_batch(of, workers):
    """Row r of the whole batch is the next one of piece r mod `of`, bit for bit."""
    expected = [whole(dataset(5, RANDOM, size=60), step) for step in range(3)]
    shared = dataset(5, RANDOM, size=60, pieces=range(of), of=of)
    for pieces, batch in zip(shared.batches(0, 3, workers), expected, strict=True):
        assert len(pieces) == of
        for piece, part in enumerate(pieces):
            assert torch.equal(part.images, batch.images[piece::of])
            assert torch.equal(part.targets, batch.targets[piece::of])


@pytest.mark.parametrize('of', [1, 2, 3, 4, 7, 10])
def test_a_pieces_rows_are_those_of_its_domains(of):
    """Each domain's slices hold its own crops, in the whole batch's order, and no others."""
    batches = dataset(pieces=range(of), of=of)
    batch = whole(dataset(), 1)
    for kind in ('labelled', 'unlabelled'):
        for name, rows in getattr(batch, kind).items():
            parts = [part.images[getattr(part, kind)[name], 0, 0, 0].tolist()
                     for part in batches[1]]
            values = [parts[row % of].pop(0) for row in range(rows.start, rows.stop)]
            assert values == batch.images[rows, 0, 0, 0].tolist()
            assert not any(parts)
    for part in batches[1]:
        assert list(part.labelled) == list(LABELLED)
        assert list(part.unlabelled) == list(UNLABELLED)
        slices = [*part.labelled.values(), *part.unlabelled.values()]
        assert [rows.start for rows in slices] == [0, *(rows.stop for rows in slices[:-1])]
        assert slices[-1].stop == len(part.images)


def test_a_process_prepares_its_own_pieces_only():
    class Recording(list):
        asked = 0

        def __getitem__(self, index):
            Recording.asked += 1
            return super().__getitem__(index)

    image = random_image(SIDE, SIDE), np.zeros((SIDE, SIDE), np.uint8)
    store = Recording([image] * 5)
    shared = MixtureDataset({'a': store, 'b': store}, {'a': store}, AS_IT_IS, 4, 4, 0,
                            pieces=(1, 4), of=6)
    third, second = (part.images for part in shared[7])
    assert len(third) + len(second) == Recording.asked == 4


def test_a_piece_without_a_crop_is_refused():
    dataset(pieces=(9,), of=10)
    with pytest.raises(DataError, match=r'10 crops .* cannot be shared among 11 pieces'):
        dataset(of=11)


@pytest.mark.parametrize(('count', 'groups', 'expected'), [
    (0, [], []), (1, [0], [0]), (2, [0, 0], [1, 0]), (3, [0, 0, 0], [2, 0, 1]),
    (4, [0, 0, 1, 1], [1, 0, 3, 2]), (5, [0, 0, 1, 1, 1], [1, 0, 4, 2, 3])])
def test_crops_are_mixed_in_pairs_and_the_last_three_together(count, groups, expected):
    assert mixing_groups(count) == groups
    assert partners_of(groups).tolist() == expected


@pytest.mark.parametrize('size', [(3, 5), (2, 8), (20, 20)])
def test_a_box_is_one_rectangle_of_whole_cells(size):
    areas = []
    for seed in range(50):
        inside = random_box(size, np.random.default_rng(seed))
        assert inside.shape == size
        rows, columns = inside.any(1), inside.any(0)
        assert np.array_equal(inside, rows[:, None] & columns)
        for line in (rows, columns):
            assert np.count_nonzero(np.diff(np.concatenate([[0], line, [0]]))) == 2
        areas.append(inside.mean())
    if min(size) == 20:  # where cells are small against the crop
        assert AREA[0] - 0.03 < min(areas) < max(areas) < AREA[1] + 0.03


def test_pixels_are_mixed_as_cells_are():
    """Crops that say in each pixel where it comes from."""
    boxes = [random_box((3, 3), np.random.default_rng(seed)) for seed in range(3)]
    origin = np.broadcast_to(np.arange(3, dtype=np.uint8)[:, None, None], (3, 20, 20))
    images, targets, mix = cut_mix(np.repeat(origin[..., None], 3, -1), origin, boxes, [4, 4, 4],
                                   8)
    assert images.dtype == targets.dtype == np.uint8
    cells = mix.of_cells(torch.arange(3.)[:, None, None, None].expand(3, 2, 3, 3))
    for crop, partner in enumerate((2, 0, 1)):
        assert torch.equal(mix.unmixed[crop], torch.full((3, 20, 20), crop, dtype=torch.uint8))
        for y in range(20):
            for x in range(20):
                expected = partner if boxes[crop][y // 8, x // 8] else crop
                assert targets[crop, y, x] == expected
                assert images[crop, y, x].tolist() == [expected] * 3
                assert cells[crop, :, y // 8, x // 8].tolist() == [expected] * 2


def test_unlabelled_crops_are_mixed_within_their_domain_with_their_padding():
    plain, batch = (whole(dataset(3, RANDOM, size=20, mix_at=mix), 4) for mix in (None, 8))
    assert plain.mixes == {}
    assert list(batch.mixes) == list(UNLABELLED)
    assert torch.equal(batch.images[:4], plain.images[:4])
    assert torch.equal(batch.targets[:4], plain.targets[:4])
    for name, rows in batch.unlabelled.items():
        mix = batch.mixes[name]
        assert torch.equal(mix.unmixed, plain.images[rows])
        assert mix.partners.tolist() == [2, 0, 1]
        inside = mix.inside.repeat_interleave(8, 1).repeat_interleave(8, 2)
        for mixed_crops, crops in ((batch.targets[rows], plain.targets[rows]),
                                   (batch.images[rows][:, 0], plain.images[rows][:, 0])):
            assert torch.equal(mixed_crops, torch.where(inside, crops[mix.partners], crops))
        assert not torch.equal(batch.images[rows], plain.images[rows])
    assert not torch.equal(batch.targets, plain.targets)
    boxes = {seed: whole(dataset(seed, mix_at=8), 4).mixes['indoor'].inside for seed in (3, 4)}
    assert torch.equal(boxes[3], batch.mixes['indoor'].inside)
    assert not torch.equal(boxes[3], boxes[4])
    assert not torch.equal(boxes[3], whole(dataset(3, mix_at=8), 5).mixes['indoor'].inside)


@pytest.mark.parametrize(('of', 'workers'), [(1, 0), (2, 1), (3, 0), (8, 0)])
@pytest.mark.parametrize('unlabelled', [2, 5])
def test_how_crops_are_mixed_does_not_depend_on_the_pieces(of, workers, unlabelled):
    """Those that are mixed with each other go to the same piece; groups go to each in turn."""
    options = {'augmentation': RANDOM, 'counts': (3, unlabelled), 'size': 60, 'mix_at': 8}
    batch = whole(dataset(**options), 2)
    [pieces] = dataset(**options, pieces=range(of), of=of).batches(2, 3, workers)
    groups, first = mixing_groups(unlabelled), 2 * 3
    for row in range(first):
        part, its = pieces[row % of], row // of
        assert torch.equal(part.images[its], batch.images[row])
        assert torch.equal(part.targets[its], batch.targets[row])
    for name, rows in batch.unlabelled.items():
        for piece, part in enumerate(pieces):
            own = [i for i, group in enumerate(groups) if (first + group) % of == piece]
            its, mix = part.unlabelled[name], part.mixes[name]
            assert its.stop - its.start == len(own)
            assert torch.equal(part.images[its], batch.images[rows][own])
            assert torch.equal(part.targets[its], batch.targets[rows][own])
            assert torch.equal(mix.inside, batch.mixes[name].inside[own])
            assert torch.equal(mix.unmixed, batch.mixes[name].unmixed[own])
            cells = torch.rand(unlabelled, 4, 4, 4, generator=torch.manual_seed(0))
            assert torch.equal(mix.of_cells(cells[own]), batch.mixes[name].of_cells(cells)[own])
        first += groups[-1] + 1


def test_a_batch_of_fewer_groups_than_pieces_is_refused():
    dataset(counts=(1, 2), mix_at=8, pieces=(3,), of=4)
    with pytest.raises(DataError, match=r'4 crops \(mixed ones counted as one\) cannot'):
        dataset(counts=(1, 2), mix_at=8, of=5)


def test_a_batch_goes_to_a_device_whole():
    batch = whole(dataset(mix_at=8), 0)
    moved = batch.to('meta')
    tensors = [moved.images, moved.targets, *(
        tensor for mix in moved.mixes.values()
        for tensor in (mix.unmixed, mix.inside, mix.partners))]
    assert len(tensors) == 8
    assert all(tensor.device.type == 'meta' for tensor in tensors)
    assert moved.labelled == batch.labelled
    assert moved.unlabelled == batch.unlabelled
    assert moved.faults == batch.faults


class Process:
    """A store whose only image tells of the process that asks for it."""

    def __init__(self):
        self.training = os.getpid()

    def __len__(self):
        return 1

    def __getitem__(self, index):
        ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        colour = cv2.getNumThreads(), ignores, os.getpid() == self.training
        return np.full((SIDE, SIDE, 3), colour, np.uint8), np.zeros((SIDE, SIDE), np.uint8)


def test_a_worker_is_one_thread_and_leaves_ctrl_c_to_the_training():
    mixture = MixtureDataset({'a': Process()}, {}, AS_IT_IS, 1, 1, 0)
    handler, threads = signal.getsignal(signal.SIGINT), cv2.getNumThreads()
    [[batch]] = mixture.batches(0, 1, workers=1)
    opencv_threads, ignores, is_the_training = batch.images[0, :, 0, 0].tolist()
    assert opencv_threads <= 1
    assert ignores
    assert not is_the_training
    assert (signal.getsignal(signal.SIGINT), cv2.getNumThreads()) == (handler, threads)


class Pinned(torch.Tensor):
    """A tensor that knows whether it was pinned, where nothing can be."""

    def pin_memory(self):
        pinned = self.clone().as_subclass(Pinned)
        pinned.is_here = True
        return pinned


def test_pinning_pins_all_tensors():
    images, targets, *mix = (torch.rand(2, 3).as_subclass(Pinned) for _ in range(5))
    batch = Batch(images, targets, {'a': slice(0, 2)}, {'a': slice(1, 2)}, ('a.png: gone',),
                  {'a': CutMix(*mix)}).pin_memory()
    pinned = batch.mixes['a']
    for tensor, its in zip((images, targets, *mix), (
            batch.images, batch.targets, pinned.unmixed, pinned.inside, pinned.partners),
            strict=True):
        assert its.is_here
        assert torch.equal(its, tensor)
    assert (batch.labelled, batch.unlabelled) == ({'a': slice(0, 2)}, {'a': slice(1, 2)})
    assert batch.faults == ('a.png: gone',)


FILES = 7


@pytest.fixture
def files(tmp_path):
    """Return samples whose images, grey all over, tell which file they are: 10, 20 and so on."""
    samples = [Sample(tmp_path / f'{i}.png') for i in range(FILES)]
    for i, sample in enumerate(samples):
        write_png(sample.image, np.full((SIDE, SIDE, 3), 10 * (i + 1), np.uint8))
    return samples


def of_files(samples, count=3, **sharing):
    """Return batches of files: indoor and outdoor labelled (though without labels), unlabelled."""
    labelled = {'outdoor': ImageStore(samples, OUTDOOR, None)}
    unlabelled = {'indoor': ImageStore(samples[:4], INDOOR, None)}
    return MixtureDataset(labelled, unlabelled, AS_IT_IS, count, 2, seed=1, **sharing)


def which(batch, samples):
    """Return the files that a batch's crops show."""
    return [samples[value // 10 - 1].image for value in batch.images[:, 0, 0, 0].tolist()]


def test_the_files_of_a_step_are_named_without_being_read(files):
    expected = [which(whole(of_files(files), step), files) for step in range(6)]
    shared = of_files(files, pieces=(1,), of=2)
    for sample in files:
        sample.image.unlink()
    assert [shared.files(step) for step in range(6)] == expected


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('lost', [[2], [0, 2, 3, 6]])
def test_the_next_of_the_epochs_order_takes_an_unreadable_files_place(files, lost, workers):
    epoch = 2  # the batches of an epoch hold each file once
    sound = of_files(files, count=FILES)
    order = sound.files(epoch)[:FILES]
    gone = {files[i].image for i in lost}
    for path in gone:
        path.unlink()
    [[batch]] = of_files(files, count=FILES).batches(epoch, epoch + 1, workers)
    doubled = order + order
    expected = [next(path for path in doubled[i:] if path not in gone) for i in range(FILES)]
    assert which(batch, files)[:FILES] == expected
    assert {fault.split(': ')[0] for fault in batch.faults} == {str(path) for path in gone}
    assert all(fault.endswith('cannot be read: No such file or directory')
               for fault in batch.faults)


def test_other_rows_do_not_change_where_a_file_is_unreadable(files):
    """The crop that takes the place is cut as the row's own would have been."""
    for sample in files:
        write_png(sample.image, random_image(60, 60, int(sample.image.stem)))
    whole_stores = {'outdoor': ImageStore(files, OUTDOOR, None)}
    sound = whole(MixtureDataset(whole_stores, {}, RANDOM, FILES, 1, 0), 0)
    order = MixtureDataset(whole_stores, {}, RANDOM, FILES, 1, 0).files(0)
    order[2].write_bytes(b'no image')
    mended = whole(MixtureDataset(whole_stores, {}, RANDOM, FILES, 1, 0), 0)
    same = [torch.equal(a, b) for a, b in zip(mended.images, sound.images, strict=True)]
    assert same == [row != 2 for row in range(FILES)]
    assert mended.faults == (
        f'{order[2]}: not a readable image (damaged, or of an unknown format)',)
    order[2].write_bytes(order[3].read_bytes())
    copied = whole(MixtureDataset(whole_stores, {}, RANDOM, FILES, 1, 0), 0)
    assert torch.equal(copied.images, mended.images)
    assert copied.faults == ()


def test_faults_belong_to_the_piece_that_met_them(files):
    lost = of_files(files).files(0)[1]
    lost.unlink()
    first, second = of_files(files, count=FILES, pieces=(0, 1), of=2)[0]
    faults = [*first.faults, *second.faults]
    rows = [row for row, path in enumerate(of_files(files, count=FILES).files(0)) if path == lost]
    assert len(faults) == len(rows) > 0
    assert [len(first.faults), len(second.faults)] == [
        sum(row % 2 == piece for row in rows) for piece in (0, 1)]


@pytest.mark.parametrize('workers', [0, 1])
def test_a_store_without_a_readable_file_is_told_by_a_name(tmp_path, workers):
    path = tmp_path / 'damaged.png'
    path.write_bytes(b'no image')
    store = ImageStore([Sample(path), Sample(path)], OUTDOOR, None)
    mixture = MixtureDataset({'outdoor': store}, {}, Curriculum((Augmentation(8),)), 1, 1, seed=0)
    with pytest.raises(ImageError) as error:
        next(mixture.batches(0, 1, workers))
    assert str(error.value) == f'{path}: not a readable image (damaged, or of an unknown format)'
