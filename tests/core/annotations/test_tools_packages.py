"""
What is written is read by the tools' own packages, and what these write again is read.

Each test runs where a package is installed; docs/annotation_tools.md says how.
"""

import json
import shutil

from drawn_maps import DOMAIN, drawn_map
import numpy as np
import pytest
from reading import classes_of
from univseg_core.annotations.formats import FORMATS
from univseg_core.domains import IGNORE_INDEX
from univseg_core.pictures.images import write_png

MASK = drawn_map()
INDEX_OF = {name: index for index, name in enumerate(DOMAIN.classes)}


@pytest.fixture
def write(tmp_path):
    """Return what writes a mask of one frame in a format, and returns its folder."""
    def in_format(name):
        folder = tmp_path / name
        frame = folder / 'images' / 'a.png'
        write_png(frame, np.zeros((*MASK.shape, 3), np.uint8))
        writer = FORMATS[name].write(folder, DOMAIN)
        writer.add(frame, MASK, 1)
        writer.finish()
        return folder
    return in_format


def test_labelme_draws_what_is_written(write):
    utils = pytest.importorskip('labelme.utils')  # labelme 7 has it elsewhere
    from labelme._label_file import read_label_file

    folder = write('labelme')
    labels = (folder / 'labels.txt').read_text().splitlines()
    # Of __ignore__ (-1) and _background_ (0) come classes, counted from 1; our void is 255.
    values = {label: index - 1 for index, label in enumerate(labels)}
    shapes = read_label_file(str(folder / 'images' / 'a.json')).shapes
    found, _ = utils.shapes_to_label(MASK.shape, shapes, values)
    assert np.mean(np.where(found <= 0, IGNORE_INDEX, found - 1) != MASK) <= 0.005


def test_label_studio_unpacks_what_is_written(write):
    brush = pytest.importorskip('label_studio_sdk.converter.brush')
    from label_studio_sdk.label_interface import LabelInterface

    folder = write('label-studio')
    interface = LabelInterface((folder / 'label_config.xml').read_text())
    assert list(interface.get_control('label').labels) == list(DOMAIN.classes)
    [task] = json.loads((folder / 'tasks.json').read_text())
    [prediction] = task['predictions']
    assert interface.validate_prediction(prediction)
    # As its converter has them: what is in `value` beside the rest.
    results = [{**result, **result['value']} for result in prediction['result']]
    found = np.full(MASK.shape, IGNORE_INDEX)
    for layer, opacity in brush.decode_from_annotation('', results).items():
        found[opacity > 0] = INDEX_OF[layer[1:].rsplit('-', 1)[0]]
    np.testing.assert_array_equal(found, MASK)


def test_fiftyone_imports_what_is_written_and_what_it_exports_is_read(write):
    importers = pytest.importorskip('fiftyone.utils.data.importers')
    from fiftyone.utils.data.exporters import ImageSegmentationDirectoryExporter

    folder = write('fiftyone')
    back = folder / 'back'
    with importers.ImageSegmentationDirectoryImporter(
            dataset_dir=str(folder), data_path='images', labels_path='labels') as samples:
        [(image, _, segmentation)] = samples
    np.testing.assert_array_equal(segmentation.get_mask(), MASK + np.uint8(1))
    with ImageSegmentationDirectoryExporter(export_dir=str(back), export_media=False) as exporter:
        exporter.export_sample(image, segmentation)
    shutil.copy(folder / 'mask_targets.json', back)
    [again] = FORMATS['fiftyone'].read(back)
    np.testing.assert_array_equal(classes_of(again, INDEX_OF), MASK)


def test_roboflows_supervision_reads_what_is_written_and_what_it_writes_is_read(write):
    supervision = pytest.importorskip('supervision')

    folder = write('coco')
    dataset = supervision.DetectionDataset.from_coco(
        str(folder / 'images'), str(folder / 'annotations' / 'instances_default.json'),
        force_masks=True)
    [(_, _, detections)] = dataset
    found = np.full(MASK.shape, IGNORE_INDEX)
    for mask, index in zip(detections.mask, detections.class_id, strict=True):
        found[mask] = INDEX_OF[dataset.classes[index]]
    np.testing.assert_array_equal(found, MASK)
    dataset.as_coco(annotations_path=str(folder / 'again.json'))
    [again] = FORMATS['coco'].read(folder / 'again.json')
    np.testing.assert_array_equal(classes_of(again, INDEX_OF), MASK)
