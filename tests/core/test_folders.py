"""Folders of images: their order, their pairs, and what is missing."""

import pytest
from univseg_core.datasets.folders import DataError, labelled_samples, list_images, Sample
from univseg_core.datasets.unlabelled import unlabelled_samples


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


def test_missing_labels_are_counted_and_the_first_named(tmp_path):
    images = touch(tmp_path / 'image', *(f'{i}.jpg' for i in range(6)))
    labels = touch(tmp_path / 'label', '0.png', '3.jpg')
    with pytest.raises(DataError, match=r'label: no label map for 5 of 6 images: 1\.jpg, 2\.jpg, '
                                        r'3\.jpg … \(expected e\.g\. 1\.png\)'):
        labelled_samples(images, labels)


def test_unlabelled_images_come_folder_by_folder(tmp_path):
    second = touch(tmp_path / 'z', 'b.png', 'a.png')
    first = touch(tmp_path / 'a', 'c.png')
    assert unlabelled_samples([second, first]) == [
        Sample(second / 'a.png'), Sample(second / 'b.png'), Sample(first / 'c.png')]
    assert unlabelled_samples([]) == []
