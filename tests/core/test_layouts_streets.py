"""Cityscapes, CamVid and IDD as their downloads have them: what is read, and what is missing."""

from collections import Counter
from itertools import chain
import json
import pickle
import shutil

import layout_trees
from layout_trees import codes, image, polygons, write_jpeg
import numpy as np
import pytest
from univseg_core.datasets.folders import DataError, read_sample
from univseg_core.datasets.layouts import camvid, cityscapes, idd, LAYOUTS
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.pictures.images import ImageError, write_png


def domain_of(dataset):
    layout = LAYOUTS[dataset]
    return Domain.create('place', layout.classes, layout.palette)


def label_of(sample, dataset):
    return read_sample(sample, domain_of(dataset))[1]


def names(samples):
    return [sample.name for sample in samples]


@pytest.mark.parametrize(('dataset', 'classes'), [
    ('cityscapes', 19), ('camvid', 11), ('idd', 26), ('sun_rgbd', 37), ('nyuv2_13', 13),
    ('nyuv2_40', 40)])
def test_every_data_set_has_its_classes_each_in_its_own_colour(dataset, classes):
    domain = domain_of(dataset)
    assert len(domain.classes) == classes
    assert len(set(domain.palette)) == classes


# Cityscapes

@pytest.fixture
def streets(tmp_path):
    return layout_trees.cityscapes(tmp_path / 'cityscapes')


def test_cityscapes_is_found(streets):
    train = cityscapes.samples(streets, 'train')
    assert names(train) == [
        'leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png',
        'leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png',
        'leftImg8bit/train/ulm/ulm_000000_000019_leftImg8bit.png']
    assert train[2].label == streets / 'gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png'
    assert names(cityscapes.samples(streets, 'val')) == [
        'leftImg8bit/val/munster/munster_000007_000019_leftImg8bit.png']
    (extra,) = cityscapes.extra(streets)
    assert extra.image.parent == streets / 'leftImg8bit/train_extra/bamberg'
    assert extra.label is None


def test_cityscapes_ids_become_train_ids(streets):
    """By hand, from labels.py: ids 0 … 33 of the first 34 pixels."""
    label = label_of(cityscapes.samples(streets, 'train')[0], 'cityscapes')
    void = 255
    assert label.ravel()[:34].tolist() == [
        void, void, void, void, void, void, void, 0, 1, void, void, 2, 3, 4, void, void, void, 5,
        void, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, void, void, 16, 17, 18]
    assert domain_of('cityscapes').classes[13] == 'car'


def test_cityscapes_train_ids_are_read_where_they_alone_are_there(streets):
    sample = cityscapes.samples(streets, 'val')[0]
    sample.label.unlink()
    path = sample.label.with_name(sample.label.name.replace('labelIds', 'labelTrainIds'))
    write_png(path, codes(*range(19), 255))
    (again,) = cityscapes.samples(streets, 'val')
    assert again.label == path
    assert np.array_equal(label_of(again, 'cityscapes'), codes(*range(19), 255))
    write_png(path, codes(19))
    with pytest.raises(ImageError, match=f'{path}: label indices \\[19\\]'):
        label_of(again, 'cityscapes')


@pytest.mark.parametrize('value', [34, 200])
def test_an_id_that_cityscapes_does_not_have_is_refused(streets, value):
    sample = cityscapes.samples(streets, 'val')[0]
    write_png(sample.label, codes(7, value))
    with pytest.raises(ImageError, match=rf'{sample.label}: \[{value}\] are no label ids'):
        label_of(sample, 'cityscapes')


@pytest.mark.parametrize(('folder', 'archive'), [
    ('leftImg8bit/train', 'leftImg8bit_trainvaltest.zip'), ('gtFine', 'gtFine_trainvaltest.zip')])
def test_a_folder_that_cityscapes_lacks_is_named_with_its_archive(streets, folder, archive):
    shutil.rmtree(streets / folder)
    with pytest.raises(DataError, match=rf'{folder}.*: no such folder; {archive} holds it'):
        cityscapes.samples(streets, 'train')
    shutil.rmtree(streets / 'leftImg8bit/train_extra')
    with pytest.raises(DataError, match=r'train_extra: .*leftImg8bit_trainextra\.zip'):
        cityscapes.extra(streets)


def test_labels_that_are_missing_are_counted_and_the_first_named(streets):
    shutil.rmtree(streets / 'gtFine/train/aachen')
    with pytest.raises(DataError, match=(
            r'2 of 3 label maps are missing: '
            r'gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds\.png, .*000001')):
        cityscapes.samples(streets, 'train')


def test_a_sample_travels_to_another_process(streets):
    """Workers that are started afresh get samples pickled."""
    sample = cityscapes.samples(streets, 'val')[0]
    again = pickle.loads(pickle.dumps(sample))
    assert again == sample
    assert again.name == sample.name
    assert np.array_equal(label_of(again, 'cityscapes'), label_of(sample, 'cityscapes'))


# CamVid

@pytest.mark.parametrize('lists', [True, False])
def test_camvid_of_11_classes(tmp_path, lists):
    root = layout_trees.camvid_grouped(tmp_path)
    write_png(root / 'train' / 'zzz.png', image())  # only a list can leave it out
    write_png(root / 'trainannot' / 'zzz.png', codes(0))
    if not lists:
        for path in root.glob('*.txt'):
            path.unlink()
    expected = ['train/0001TP_006690.png', 'train/0006R0_f00930.png']
    assert names(camvid.samples(root, 'train')) == expected + ['train/zzz.png'] * (not lists)
    assert names(camvid.samples(root, 'val')) == ['val/0016E5_07959.png']
    assert names(camvid.samples(root, 'test')) == ['test/Seq05VD_f00000.png']


def test_camvids_index_11_is_void(tmp_path):
    (sample,) = camvid.samples(layout_trees.camvid_grouped(tmp_path), 'val')
    assert label_of(sample, 'camvid').ravel()[:12].tolist() == [*range(11), 255]
    write_png(sample.label, codes(12))
    with pytest.raises(ImageError, match=f'{sample.label}: \\[12\\]'):
        label_of(sample, 'camvid')


@pytest.mark.parametrize(('folder', 'what'), [('train', 'images'), ('trainannot', 'label maps')])
def test_what_camvids_list_names_must_be_there(tmp_path, folder, what):
    root = layout_trees.camvid_grouped(tmp_path)
    (root / folder / '0006R0_f00930.png').unlink()
    with pytest.raises(DataError, match=rf'1 of 2 {what} are missing: {folder}/0006R0_f00930'):
        camvid.samples(root, 'train')


def test_the_original_stills_are_split_as_those_of_11_classes(tmp_path):
    root = layout_trees.camvid_original(tmp_path, image())
    found = {part: [sample.image.stem for sample in camvid.samples(root, part)]
             for part in ('train', 'val', 'test')}
    assert found == {
        'train': ['0001TP_006690', '0001TP_008520', '0006R0_f00930', '0006R0_f03930',
                  '0016E5_00390', '0016E5_07920', '0016E5_08190'],
        'val': ['0016E5_07959', '0016E5_08159'],
        'test': ['0001TP_008550', '0001TP_010380', 'Seq05VD_f00000', 'Seq05VD_f05100']}
    assert sorted(chain(*found.values())) == sorted(layout_trees.STILLS)


def test_lists_decide_on_the_original_stills_where_they_are_there(tmp_path):
    root = layout_trees.camvid_original(tmp_path, image())
    (root / 'val.txt').write_text('0006R0_f00930.png\n\n')
    (sample,) = camvid.samples(root, 'val')
    assert sample.label == root / 'LabeledApproved_full' / '0006R0_f00930_L.png'


def test_camvids_32_colours_become_11_classes(tmp_path):
    """Each colour by its name in the authors' list, and the class that groups it."""
    grouped = {
        (64, 128, 64): 'Pedestrian',  # Animal
        (192, 0, 128): 'Building',  # Archway
        (0, 128, 192): 'Bicyclist',
        (0, 128, 64): 'Building',  # Bridge
        (128, 0, 0): 'Building',
        (64, 0, 128): 'Car',
        (64, 0, 192): 'Pedestrian',  # CartLuggagePram
        (192, 128, 64): 'Pedestrian',  # Child
        (192, 192, 128): 'Pole',  # Column_Pole
        (64, 64, 128): 'Fence',
        (128, 0, 192): 'Road',  # LaneMkgsDriv
        (192, 0, 64): 'Road',  # LaneMkgsNonDriv
        (128, 128, 64): 'SignSymbol',  # Misc_Text
        (192, 0, 192): 'Bicyclist',  # MotorcycleScooter
        (128, 64, 64): 'Car',  # OtherMoving
        (64, 192, 128): 'Pavement',  # ParkingBlock
        (64, 64, 0): 'Pedestrian',
        (128, 64, 128): 'Road',
        (128, 128, 192): 'Pavement',  # RoadShoulder
        (0, 0, 192): 'Pavement',  # Sidewalk
        (192, 128, 128): 'SignSymbol',
        (128, 128, 128): 'Sky',
        (64, 128, 192): 'Car',  # SUVPickupTruck
        (0, 0, 64): 'Pole',  # TrafficCone
        (0, 64, 64): 'SignSymbol',  # TrafficLight
        (192, 64, 128): 'Car',  # Train
        (128, 128, 0): 'Tree',
        (192, 128, 192): 'Car',  # Truck_Bus
        (64, 0, 64): 'Building',  # Tunnel
        (192, 192, 0): 'Tree',  # VegetationMisc
        (0, 0, 0): None,  # Void
        (64, 192, 0): 'Building',  # Wall
    }
    assert len(grouped) == 32
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels.reshape(-1, 3)[:32] = list(grouped)
    root = layout_trees.camvid_original(tmp_path, pixels)
    label = label_of(camvid.samples(root, 'val')[0], 'camvid')
    index = domain_of('camvid').classes.index
    assert label.ravel()[:33].tolist() == [
        255 if name is None else index(name) for name in (*grouped.values(), None)]


@pytest.mark.parametrize('colour', [(64, 64, 64), (128, 64, 129), (1, 0, 0), (255, 255, 255)])
def test_a_colour_that_camvid_does_not_have_is_refused(tmp_path, colour):
    pixels = np.full((16, 16, 3), 128, np.uint8)
    pixels[3, 5] = colour
    sample = camvid.samples(layout_trees.camvid_original(tmp_path, pixels), 'val')[0]
    with pytest.raises(ImageError, match=rf'{sample.label}: the colour \[{colour[0]}, '):
        label_of(sample, 'camvid')


def test_a_folder_that_is_no_camvid_is_told(tmp_path):
    with pytest.raises(DataError, match=r'neither a folder train .* nor 701_StillsRaw_full'):
        camvid.samples(tmp_path, 'train')
    layout_trees.camvid_original(tmp_path, image())
    write_png(tmp_path / '701_StillsRaw_full' / 'holiday.png', image())
    with pytest.raises(DataError, match=r'holiday\.png: expected the name of a still of CamVid'):
        camvid.samples(tmp_path, 'train')


# IDD

@pytest.mark.parametrize('ending', ['png', 'jpg'])
@pytest.mark.parametrize('piece', ['', 'IDD_Segmentation', 'idd20kII'])
def test_idd_is_found(tmp_path, ending, piece):
    layout_trees.idd(tmp_path / piece, ending)
    train = idd.samples(tmp_path, 'train')
    prefix = f'{piece}/' if piece else ''
    assert names(train) == [
        f'{prefix}leftImg8bit/train/{drive}/frame0014_leftImg8bit.{ending}' for drive in (0, 12)]
    assert len(idd.samples(tmp_path, 'val')) == 1


def test_both_parts_of_idd_may_lie_beside_each_other(tmp_path):
    layout_trees.idd(tmp_path / 'IDD_Segmentation')
    layout_trees.idd(tmp_path / 'idd20kII', 'jpg')
    assert Counter(name.split('/')[0] for name in names(idd.samples(tmp_path, 'train'))) == {
        'IDD_Segmentation': 2, 'idd20kII': 2}


def test_idds_polygons_are_drawn_in_their_order(tmp_path):
    """Sky above row 8, road below, and on both a car of columns 2 … 5 and rows 6 … 10."""
    (sample,) = idd.samples(layout_trees.idd(tmp_path), 'val')
    expected = np.full((16, 16), 25)
    expected[8:] = 0
    expected[6:11, 2:6] = 9
    assert np.array_equal(label_of(sample, 'idd'), expected)


def test_idds_labels_become_level_3(tmp_path):
    """By hand, from anue_labels.py: each label's level3Id."""
    level_3 = {
        'road': 0, 'parking': 1, 'drivable fallback': 1, 'sidewalk': 2, 'rail track': 3,
        'non-drivable fallback': 3, 'person': 4, 'animal': 4, 'rider': 5, 'motorcycle': 6,
        'bicycle': 7, 'autorickshaw': 8, 'car': 9, 'truck': 10, 'bus': 11, 'caravan': 12,
        'trailer': 12, 'train': 12, 'vehicle fallback': 12, 'curb': 13, 'wall': 14, 'fence': 15,
        'guard rail': 16, 'billboard': 17, 'traffic sign': 18, 'traffic light': 19, 'pole': 20,
        'polegroup': 20, 'obs-str-bar-fallback': 21, 'building': 22, 'bridge': 23, 'tunnel': 23,
        'vegetation': 24, 'sky': 25, 'fallback background': 25, 'unlabeled': 255,
        'ego vehicle': 255, 'rectification border': 255, 'out of roi': 255, 'license plate': 255}
    assert level_3 == idd.INDICES
    path = tmp_path / 'x.json'
    path.write_text(polygons(*((label, [[i, 0], [i, 3], [i, 5]])
                               for i, label in enumerate(level_3)), size=40))
    assert idd.read_polygons(path, domain_of('idd'))[0].tolist() == list(level_3.values())


def test_what_is_deleted_or_no_area_is_not_drawn(tmp_path):
    path = tmp_path / 'x.json'
    values = json.loads(polygons(('road', [[0, 0], [15, 0], [15, 15], [0, 15]]),
                                 ('car', [[0, 0], [15, 0], [15, 15]]), ('car', [[3, 3], [9, 9]])))
    values['objects'][1]['deleted'] = 1
    path.write_text(json.dumps(values))
    assert not idd.read_polygons(path, domain_of('idd')).any()


def test_idds_label_images_are_read_where_someone_has_made_them(tmp_path):
    (sample,) = idd.samples(layout_trees.idd(tmp_path), 'val')
    made = sample.label.with_name('frame0014_gtFine_labellevel3Ids.png')
    write_png(made, codes(*range(26), 255))
    (again,) = idd.samples(tmp_path, 'val')
    assert again.label == made
    assert np.array_equal(label_of(again, 'idd'), codes(*range(26), 255))
    write_png(made, codes(26))
    with pytest.raises(ImageError, match=f'{made}: label indices'):
        label_of(again, 'idd')


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'not a file of labelled polygons'),
    ('{"imgWidth": 16, "imgHeight": 16, "objects": [{"label": "ro', 'not a file of labelled'),
    ('[]', 'not a file of labelled polygons'),
    ('{"imgWidth": 16, "imgHeight": 16}', "KeyError: 'objects'"),
    ('{"imgWidth": 16, "imgHeight": 16, "objects": [{"label": "road", "polygon": [1, 2, 3]}]}',
     'not a file of labelled polygons'),
    ('{"imgWidth": 0, "imgHeight": 16, "objects": []}', '0×16 pixels'),
    ('{"imgWidth": 900000, "imgHeight": 900000, "objects": []}', '900000×900000 pixels'),
    ('{"imgWidth": 20000, "imgHeight": 20000, "objects": []}', '20000×20000 pixels; .*PIX'),
    ('[' * 100_000, 'not a file of labelled polygons'),
    (polygons(*200 * [('road', [[0, 0], [99, 0], [99, 99], [0, 99]])]), 'than can be meant'),
    (polygons(('road', 2000 * [[0, 0]])), 'than can be meant'),
    (polygons(('road', [[0, 0], [1e300, 0], [5, 5]])), 'far outside the image'),
    (polygons(('road', [[0, 0], [float('nan'), 0], [5, 5]])), 'far outside the image'),
    (polygons(('spaceship', [[0, 0], [3, 0], [5, 5]])), "'spaceship' is no label of IDD"),
])
def test_damaged_polygons_are_told_with_their_file(tmp_path, text, message):
    (sample,) = idd.samples(layout_trees.idd(tmp_path), 'val')
    sample.label.write_text(text)
    with pytest.raises(ImageError, match=rf'polygons\.json: .*{message}'):
        label_of(sample, 'idd')


def test_polygons_of_another_size_than_the_image_are_told(tmp_path):
    (sample,) = idd.samples(layout_trees.idd(tmp_path), 'val')
    sample.label.write_text(polygons(size=8))
    with pytest.raises(DataError, match=r'polygons\.json: the label map is 8×8, its image 16×16'):
        label_of(sample, 'idd')


def test_an_idd_without_labels_or_images_is_told(tmp_path):
    with pytest.raises(DataError, match='has no folder leftImg8bit, IDD_Segmentation or idd20kII'):
        idd.samples(tmp_path, 'train')
    layout_trees.idd(tmp_path)
    shutil.rmtree(tmp_path / 'gtFine/train/12')
    with pytest.raises(DataError, match=(r'1 of 2 label files are missing: '
                                         r'gtFine/train/12/frame0014_gtFine_polygons\.json')):
        idd.samples(tmp_path, 'train')
    shutil.rmtree(tmp_path / 'leftImg8bit/val/5')
    with pytest.raises(DataError, match=r'leftImg8bit/val/\*: no images'):
        idd.samples(tmp_path, 'val')


def test_void_is_what_no_polygon_covers(tmp_path):
    path = tmp_path / 'x.json'
    path.write_text(polygons(('road', [[0, 0], [3, 0], [3, 3], [0, 3]])))
    label = idd.read_polygons(path, domain_of('idd'))
    assert (label == 0).sum() == 16
    assert (label == IGNORE_INDEX).sum() == 16 * 16 - 16


def test_other_files_beside_the_images_do_not_matter(tmp_path):
    root = layout_trees.idd(tmp_path)
    (root / 'leftImg8bit/train/README').write_text('x')
    write_jpeg(root / 'leftImg8bit/train/0/thumbnail.jpg', image())
    assert len(idd.samples(root, 'train')) == 2
