"""Folders of images: their order, their pairs, and what is missing."""

import os

import numpy as np
from PIL import Image
import pytest
from tiny_worlds import OUTDOOR
from univseg_core.datasets.folders import (
    DataError,
    labelled_samples,
    list_images,
    read_sample,
    Sample,
    stray_labels,
)
from univseg_core.datasets.unlabelled import unlabelled_samples
from univseg_core.pictures.images import write_png


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize('order', [['c.png', 'a.jpg', 'b10.png', 'b2.png'],
                                   ['b2.png', 'b10.png', 'a.jpg', 'c.png']])
def test_images_are_sorted_by_name_whatever_the_order_they_were_made_in(tmp_path, order):
    touch(tmp_path, *order)
    assert [p.name for p in list_images(tmp_path)] == ['a.jpg', 'b10.png', 'b2.png', 'c.png']


def test_other_files_are_left_out(tmp_path):
    touch(tmp_path, 'a.PNG', 'b.Jpeg', 'notes.txt', 'png', '.hidden', 'c.png.part')
    assert [p.name for p in list_images(tmp_path)] == ['a.PNG', 'b.Jpeg']


def test_a_folder_without_images_is_named(tmp_path):
    touch(tmp_path / 'empty', 'notes.txt')
    with pytest.raises(DataError, match=r'empty: no images \(\.png, \.jpg'):
        list_images(tmp_path / 'empty')


def test_two_images_of_one_name_are_refused(tmp_path):
    touch(tmp_path, 'a.png', 'b.jpg', 'b.png')
    with pytest.raises(DataError, match=r'b\.png: has the same name as b\.jpg'):
        list_images(tmp_path)


def test_images_are_paired_with_labels_by_name(tmp_path):
    images = touch(tmp_path / 'image', 'b.jpg', 'a.png')
    labels = touch(tmp_path / 'label', 'a.png', 'b.png', 'of_no_image.png')
    assert labelled_samples(images, labels) == [
        Sample(images / 'a.png', labels / 'a.png'), Sample(images / 'b.jpg', labels / 'b.png')]


def test_images_without_a_label_map_are_listed_without_one(tmp_path):
    images = touch(tmp_path / 'image', *(f'{i}.jpg' for i in range(3)))
    labels = touch(tmp_path / 'label', '1.png')
    assert labelled_samples(images, labels) == [
        Sample(images / '0.jpg'), Sample(images / '1.jpg', labels / '1.png'),
        Sample(images / '2.jpg')]


def test_a_folder_without_a_label_map_for_any_image_is_told(tmp_path):
    images = touch(tmp_path / 'image', *(f'{i}.jpg' for i in range(6)))
    labels = touch(tmp_path / 'label', '0_label.png')
    with pytest.raises(DataError, match=r'label: no label map for 6 of 6 images: 0\.jpg, 1\.jpg, '
                                        r'2\.jpg … \(expected e\.g\. 0\.png\)'):
        labelled_samples(images, labels)


def test_a_label_map_that_is_no_png_is_told(tmp_path):
    images = touch(tmp_path / 'image', '0.jpg', '3.jpg')
    labels = touch(tmp_path / 'label', '0.png', '3.JPG')
    with pytest.raises(DataError, match=r'3\.JPG: expected a label map 3\.png'):
        labelled_samples(images, labels)


def test_label_maps_that_fit_no_image_are_found(tmp_path):
    images = touch(tmp_path / 'image', 'a.jpg')
    labels = touch(tmp_path / 'label', 'a.png', 'b.png', '._c.png')
    assert stray_labels(images, labels) == [labels / 'b.png']


@pytest.mark.parametrize(('image', 'label'), [
    ('IMG 1.JPG', 'IMG 1.PNG'), ('a.b.Tiff', 'a.b.Png'), ('Straße.jpg', 'Straße.png'),
    ('caf\u00e9.jpg', 'cafe\u0301.png')])
def test_endings_in_any_case_spaces_and_accents_pair(tmp_path, image, label):
    images, labels = touch(tmp_path / 'image', image), touch(tmp_path / 'label', label)
    assert labelled_samples(images, labels) == [Sample(images / image, labels / label)]


def test_hidden_files_are_no_pictures(tmp_path):
    for folder in ('image', 'label'):
        touch(tmp_path / folder, 'a.png', '._a.png', '.b.png')
    assert labelled_samples(tmp_path / 'image', tmp_path / 'label') == [
        Sample(tmp_path / 'image/a.png', tmp_path / 'label/a.png')]


@pytest.mark.parametrize('name', [b'stra\xdfe.png', b'two\nlines.png'])
def test_a_name_that_no_text_file_holds_is_told(tmp_path, name):
    (tmp_path / os.fsdecode(name)).touch()
    with pytest.raises(DataError, match='not in UTF-8, or of several lines; rename it'):
        list_images(tmp_path)


def test_a_folder_of_other_pictures_tells_which(tmp_path):
    touch(tmp_path, 'a.heic', 'b.HEIC', 'notes.txt')
    told = r'no images .* in this folder; it has 2 \.heic, 1 \.txt'
    with pytest.raises(DataError, match=f'{told}$'):
        list_images(tmp_path)
    (tmp_path / 'SegmentationClass').mkdir()
    with pytest.raises(DataError, match=f'{told}; the folders in it are SegmentationClass$'):
        list_images(tmp_path)


def photo(path, orientation, size=(6, 4)):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(exist_ok=True)
    Image.new('RGB', size).save(path, exif=exif)
    return path


def test_a_label_map_is_to_fit_the_upright_picture(tmp_path):
    image = photo(tmp_path / 'image' / 'a.jpg', 6)
    sample = Sample(image, tmp_path / 'label' / 'a.png')
    write_png(sample.label, np.ones((6, 4), np.uint8))
    assert read_sample(sample, OUTDOOR)[0].shape == (6, 4, 3)
    write_png(sample.label, np.ones((4, 6), np.uint8))
    with pytest.raises(DataError, match=r'a\.png: the label map is 6×4, its image 4×6: the '
                       r'orientation in the EXIF data of the image \(6\) turns it'):
        read_sample(sample, OUTDOOR)
    write_png(sample.label, np.ones((5, 6), np.uint8))
    with pytest.raises(DataError, match=r'label map is 6×5, its image 4×6$'):
        read_sample(sample, OUTDOOR)


def test_unlabelled_images_come_folder_by_folder(tmp_path):
    second = touch(tmp_path / 'z', 'b.png', 'a.png')
    first = touch(tmp_path / 'a', 'c.png')
    assert unlabelled_samples([second, first]) == [
        Sample(second / 'a.png'), Sample(second / 'b.png'), Sample(first / 'c.png')]
    assert unlabelled_samples([]) == []
