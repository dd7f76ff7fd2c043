"""SUN RGB-D and NYUv2: what is read from their archives or folders, extracted once and kept."""

import json
import sys

import layout_trees
from layout_trees import codes, image, write_jpeg
import numpy as np
import pytest
from univseg_core.datasets import cache
from univseg_core.datasets.folders import DataError, read_sample
from univseg_core.datasets.layouts import LAYOUTS, nyuv2, sun_rgbd
from univseg_core.domains import Domain
from univseg_core.pictures.images import ImageError, read_codes, write_png

VOID = 255


def read(sample, dataset):
    layout = LAYOUTS[dataset]
    return read_sample(sample, Domain.create('rooms', layout.classes, layout.palette))


def label_of(sample, dataset):
    return read(sample, dataset)[1]


def names(samples):
    return [sample.name for sample in samples]


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('UNIVSEG_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture
def sun(tmp_path):
    pytest.importorskip('h5py', reason='the archive of SUN RGB-D is read by h5py')
    return layout_trees.sun_rgbd(tmp_path / 'sun')


@pytest.fixture
def nyu(tmp_path):
    pytest.importorskip('h5py', reason='the archive of NYUv2 is read by h5py')
    return layout_trees.nyuv2(tmp_path / 'nyu')


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*.png')}


# SUN RGB-D

def test_the_sun_archive_is_split_as_its_toolbox_says(sun):
    assert names(sun_rgbd.samples(sun, 'train')) == [
        f'SUNRGBD/{folder}/image/0000103.jpg' for folder in layout_trees.SUN_FOLDERS[1:]]
    assert names(sun_rgbd.samples(sun, 'test')) == [
        f'SUNRGBD/{layout_trees.SUN_FOLDERS[0]}/image/0000103.jpg']


@pytest.mark.parametrize(('part', 'first'), [('test', [VOID]), ('train', [0, 1])])
def test_sun_labels_are_those_of_their_images_with_0_for_void(sun, part, first):
    """The tree has codes 0 … 37 in turn, and its own number in a label's first pixel."""
    for sample, pixel in zip(sun_rgbd.samples(sun, part), first, strict=True):
        label = label_of(sample, 'sun_rgbd')
        assert label[0, 0] == pixel
        assert label.ravel()[1:39].tolist() == [*range(37), VOID]
        assert label[2, 5] == 36  # pixel 37, not transposed


def test_sun_labels_are_extracted_once(sun, cache_folder, monkeypatch):
    sun_rgbd.samples(sun, 'train')
    before = times(cache_folder)
    assert len(before) == 3
    monkeypatch.setitem(sys.modules, 'h5py', None)  # not needed any more
    assert len(sun_rgbd.samples(sun, 'test')) == 1
    assert times(cache_folder) == before


def test_an_extraction_that_was_cut_off_goes_on(sun, cache_folder):
    sun_rgbd.samples(sun, 'train')
    before = times(cache_folder)
    (index,) = cache_folder.glob('*/complete.json')
    index.unlink()
    lost = index.parent / 'label' / '000002.png'
    content = lost.read_bytes()
    lost.unlink()
    (index.parent / 'label' / '.000002.unfinished-x.png').touch()
    sun_rgbd.samples(sun, 'train')
    after = times(cache_folder)
    assert {path: time for path, time in after.items() if path != lost} == {
        path: time for path, time in before.items() if path != lost}
    assert lost.read_bytes() == content


@pytest.mark.parametrize('path', ['Metadata/SUNRGBD2Dseg.mat', 'Metadata/SUNRGBDMeta.mat',
                                  'traintestSUNRGBD/allsplit.mat'])
def test_what_the_toolbox_lacks_or_has_damaged_is_named(sun, path):
    file = sun / 'SUNRGBDtoolbox' / path
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(DataError, match=rf'{path}: not a whole .*incomplete download'):
        sun_rgbd.samples(sun, 'train')
    file.unlink()
    with pytest.raises(DataError, match=rf'{path} not there; SUNRGBDtoolbox\.zip holds'):
        sun_rgbd.samples(sun, 'train')


def test_extracted_labels_that_went_missing_are_named(sun):
    sun_rgbd.samples(sun, 'train')[0].label.unlink()
    with pytest.raises(DataError, match=r'1 of 2 extracted files .*: label/000002\.png'):
        sun_rgbd.samples(sun, 'train')


def test_images_that_sun_lacks_are_named(sun):
    (sun / 'SUNRGBD' / layout_trees.SUN_FOLDERS[2] / 'image' / '0000103.jpg').unlink()
    with pytest.raises(DataError, match=r'1 of 2 images are missing: SUNRGBD/xtion/.*103\.jpg'):
        sun_rgbd.samples(sun, 'train')
    assert sun_rgbd.samples(sun, 'test')


def test_without_h5py_it_is_told_how_to_get_it(sun, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(DataError, match=r'SUNRGBD2Dseg\.mat: .*pip install h5py'):
        sun_rgbd.samples(sun, 'train')


def test_flat_sun_folders_count_the_test_labels_first(tmp_path):
    for part, number in (('train', 1), ('train', 5285), ('test', 1)):
        write_jpeg(tmp_path / f'SUNRGBD-{part}_images' / f'img-{number:06}.jpg', image())
    for number in (1, 5051, 10335):
        write_png(tmp_path / 'sunrgbd_train_test_labels' / f'img-{number:06}.png', codes(0, 37))
    train, test = (sun_rgbd.samples(tmp_path, part) for part in ('train', 'test'))
    assert [sample.label.name for sample in train] == ['img-005051.png', 'img-010335.png']
    assert [sample.label.name for sample in test] == ['img-000001.png']
    assert label_of(train[0], 'sun_rgbd')[0, :2].tolist() == [VOID, 36]
    train[0].label.unlink()
    with pytest.raises(DataError, match=r'1 of 2 label maps are missing: .*img-005051\.png'):
        sun_rgbd.samples(tmp_path, 'train')


def test_flat_sun_folders_with_labels_by_part(tmp_path):
    write_jpeg(tmp_path / 'image/train/img-000007.jpg', image())
    write_png(tmp_path / 'label37/train/img37labels-000007.png', codes(38))
    (sample,) = sun_rgbd.samples(tmp_path, 'train')
    assert sample.label.name == 'img37labels-000007.png'
    with pytest.raises(ImageError, match=rf'{sample.label}: \[38\] are no label ids'):
        label_of(sample, 'sun_rgbd')


@pytest.mark.parametrize(('dataset', 'labels', 'last'), [
    ('sun_rgbd', 'labels', 37), ('nyuv2_40', 'Label', 40)])
def test_folders_with_lists(tmp_path, dataset, labels, last):
    for name in ('3', '20', '4'):
        write_jpeg(tmp_path / 'RGB' / f'{name}.jpg', image())
        write_png(tmp_path / labels / f'{name}.png', codes(0, last))
    (tmp_path / 'train.txt').write_text(f'RGB/20.jpg {labels}/20.png\nRGB/3.jpg {labels}/3.png\n')
    (tmp_path / 'test.txt').write_text('4\n')
    layout = LAYOUTS[dataset]
    train = layout.samples(tmp_path, 'train')
    assert names(train) == ['RGB/20.jpg', 'RGB/3.jpg']
    assert names(layout.samples(tmp_path, 'test')) == ['RGB/4.jpg']
    assert label_of(train[0], dataset)[0, :2].tolist() == [VOID, last - 1]
    (tmp_path / 'RGB' / '4.jpg').unlink()
    with pytest.raises(DataError, match=r'1 of 1 images are missing: RGB/4\.jpg'):
        layout.samples(tmp_path, 'test')


@pytest.mark.parametrize('dataset', ['sun_rgbd', 'nyuv2_13', 'nyuv2_40'])
def test_a_folder_that_is_none_of_the_layouts_is_told(tmp_path, dataset):
    expected = 'SUNRGBD' if dataset == 'sun_rgbd' else 'nyu_depth_v2_labeled.mat'
    with pytest.raises(DataError, match=f'{tmp_path}: has .*{expected}'):
        LAYOUTS[dataset].samples(tmp_path, 'train')


# NYUv2

def test_the_official_split_of_nyuv2():
    numbers = nyuv2.train_numbers()
    assert len(numbers) == 795
    assert sorted(numbers)[:12] == [3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 19, 20]
    assert max(numbers) == 1440
    assert nyuv2.IMAGES - len(numbers) == 654


def test_the_nyuv2_archive_is_split_and_its_images_are_its_own(nyu):
    train, test = (nyuv2.samples_40(nyu, part) for part in ('train', 'test'))
    assert names(test) == ['0001.png', '0002.png', '0009.png']
    assert names(train) == [f'{i:04}.png' for i in (3, 4, 5, 6, 7, 8, 10, 11, 12)]
    assert np.array_equal(read(train[0], 'nyuv2_40')[0], image(2))
    assert np.array_equal(read(test[2], 'nyuv2_40')[0], image(8))


def test_nyuv2_labels_become_40_and_13_classes(nyu):
    """By hand, from classMapping40 and class13Mapping: row 1 has 21 157 8 892 894 1 17 0."""
    for dataset, expected in {
        'nyuv2_40': ['wall', 'bed', 'otherstructure', 'otherfurniture', 'otherprop', 'otherprop',
                     'refrigerator'],
        'nyuv2_13': ['wall', 'bed', 'objects', 'furniture', 'objects', 'objects', 'furniture'],
    }.items():
        layout = LAYOUTS[dataset]
        label = label_of(layout.samples(nyu, 'train')[0], dataset)
        assert [layout.classes[i] for i in label[1, :7]] == expected
        assert label[1, 7] == VOID
        assert (label[2:] == VOID).all()


def test_the_894_labels_fall_into_40_classes():
    """As often as in classMapping40: 37 single ones, 68, 82 and the 707 others."""
    counts = np.bincount(nyuv2.codes_of_objects())
    assert counts.tolist() == [1] * 38 + [68, 82, 707]


def test_the_labels_of_both_class_sets_are_extracted_once(nyu, cache_folder):
    nyuv2.samples_40(nyu, 'train')
    before = times(cache_folder)
    assert len(before) == 2 * layout_trees.NYU_IMAGES
    nyuv2.samples_13(nyu, 'test')
    assert times(cache_folder) == before


def test_another_archive_is_extracted_anew(nyu, cache_folder):
    import h5py

    nyuv2.samples_40(nyu, 'train')
    with h5py.File(nyu / nyuv2.MAT, 'r+') as file:
        file['labels'][2] = 11
    (sample, *_) = nyuv2.samples_40(nyu, 'train')
    assert (label_of(sample, 'nyuv2_40') == 1).all()
    assert len(list(cache_folder.iterdir())) == 2


def test_extracted_files_that_went_missing_are_named(nyu, cache_folder):
    lost = nyuv2.samples_40(nyu, 'train')[3].label
    lost.unlink()
    with pytest.raises(DataError, match=r'1 of 18 extracted files .*label/0006\.png'):
        nyuv2.samples_40(nyu, 'train')


@pytest.mark.parametrize('spoil', [
    lambda path: path.write_bytes(path.read_bytes()[:2000]),
    lambda path: path.write_bytes(b''),
    lambda path: path.write_text('no archive')])
def test_a_damaged_archive_is_told_and_leaves_nothing_that_counts(nyu, cache_folder, spoil):
    spoil(nyu / nyuv2.MAT)
    with pytest.raises(DataError, match=r'labeled\.mat: not a whole file .*incomplete download'):
        nyuv2.samples_40(nyu, 'train')
    assert not list(cache_folder.rglob('*.json'))


def test_an_archive_without_labels_is_told(nyu):
    import h5py

    with h5py.File(nyu / nyuv2.MAT, 'r+') as file:
        del file['labels']
    with pytest.raises(DataError, match=r'labeled\.mat: not a whole file'):
        nyuv2.samples_40(nyu, 'train')


def test_labels_beyond_the_894_are_told(nyu):
    import h5py

    with h5py.File(nyu / nyuv2.MAT, 'r+') as file:
        file['labels'][4, 5, 5] = 895
    with pytest.raises(DataError, match=r'labeled\.mat: label 5 has 895, expected 0\.\.894'):
        nyuv2.samples_40(nyu, 'train')


@pytest.mark.parametrize(('dataset', 'folder', 'last', 'expected'), [
    ('nyuv2_40', 'labels_40', 40, 39), ('nyuv2_13', 'labels_40', 40, 6),
    ('nyuv2_13', 'labels_13', 13, 12)])
def test_nyuv2_as_folders(tmp_path, dataset, folder, last, expected):
    write_png(tmp_path / 'train/rgb/0003.png', image())
    path = tmp_path / 'train' / folder / '0003.png'
    write_png(path, codes(0, last))
    (sample,) = LAYOUTS[dataset].samples(tmp_path, 'train')
    assert sample.label == path
    assert label_of(sample, dataset)[0, :2].tolist() == [VOID, expected]
    write_png(path, codes(last + 1))
    with pytest.raises(ImageError, match=rf'\[{last + 1}\] are no label ids'):
        label_of(sample, dataset)
    path.unlink()
    with pytest.raises(DataError, match='1 of 1 label maps are missing'):
        LAYOUTS[dataset].samples(tmp_path, 'train')


# The cache

def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv('UNIVSEG_CACHE', str(tmp_path / 'own'))
    assert cache.cache_folder() == tmp_path / 'own'
    monkeypatch.delenv('UNIVSEG_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache.cache_folder() == tmp_path / 'xdg' / 'univseg'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cache.cache_folder() == tmp_path / '.cache' / 'univseg'


def test_what_is_kept_are_plain_images_and_lists(nyu, cache_folder):
    nyuv2.samples_40(nyu, 'train')
    kept = {path.suffix for path in cache_folder.rglob('*') if path.is_file()}
    assert kept == {'.png', '.json', ''}  # '' is the lock
    (done,) = cache_folder.rglob('complete.json')
    assert json.loads(done.read_text()) == {'images': layout_trees.NYU_IMAGES}
    assert read_codes(done.parent / 'label' / '0003.png')[1, :3].tolist() == [1, 4, 38]
