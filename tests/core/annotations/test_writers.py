"""Masks that are written for COCO and CVAT come back by readers, ours and pycocotools'."""

import json
from pathlib import Path

from drawn_maps import DOMAIN, drawn_map
import numpy as np
from pycocotools.coco import COCO
import pytest
from univseg_core.annotations.formats import FORMATS
from univseg_core.annotations.outlines import Outline
from univseg_core.annotations.painting import painted
from univseg_core.annotations.regions import AnnotationError, Polygons
from univseg_core.annotations.slits import one_ring
from univseg_core.domains import Domain, IGNORE_INDEX

WRITTEN = ('coco', 'coco-polygons', 'cvat', 'cvat-polygons')

MASKS = {'a.jpg': drawn_map(), 'b & "b".png': np.rot90(drawn_map(150, 270)).copy(),
         'empty.png': np.full((9, 8), IGNORE_INDEX, np.uint8),
         'one.png': np.zeros((3, 4), np.uint8)}


@pytest.fixture(params=WRITTEN)
def written(request, tmp_path):
    writer = FORMATS[request.param].write(tmp_path, DOMAIN)
    for name, mask in MASKS.items():
        writer.add(Path('frames') / name, mask, 0.5)
    writer.finish()
    return request.param, tmp_path


def test_masks_come_back_exactly_and_polygons_within_half_a_percent(written):
    name, folder = written
    format_ = FORMATS[name.removesuffix('-polygons')]
    assert format_.recognises(folder)
    indices = {label: index for index, label in enumerate(DOMAIN.classes)}
    images = {image.image: image for image in format_.read(folder)}
    assert list(images) == list(MASKS)
    different = total = 0
    for file, mask in MASKS.items():
        assert images[file].size == mask.shape
        different += (painted(images[file], *mask.shape, indices) != mask).sum()
        total += mask.size
    if name.endswith('-polygons'):
        assert different <= 0.005 * total
    else:
        assert different == 0


def test_pycocotools_reads_what_is_written_for_coco(written):
    name, folder = written
    if not name.startswith('coco'):
        return
    coco = COCO(folder / 'annotations' / 'instances_default.json')
    assert [each['name'] for each in coco.loadCats(coco.getCatIds())] == list(DOMAIN.classes)
    for image in coco.loadImgs(coco.getImgIds()):
        mask = MASKS[image['file_name']]
        classes, times = np.full(mask.shape, IGNORE_INDEX, int), np.zeros(mask.shape, int)
        for each in coco.loadAnns(coco.getAnnIds(imgIds=image['id'])):
            covered = coco.annToMask(each).astype(bool)
            classes[covered] = each['category_id'] - 1
            times += covered
            rows, columns = np.nonzero(covered)
            assert abs(each['area'] - covered.sum()) <= max(2, 0.15 * covered.sum())
            assert np.allclose(each['bbox'], [
                columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1], atol=1)
        # Whoever does not paint in order sees the same, but for borders.
        assert (times > 1).mean() <= 0.02 * name.endswith('-polygons')
        assert (classes != mask).mean() <= 0.01 * name.endswith('-polygons')


def test_one_annotation_of_a_class_and_image_has_run_lengths(tmp_path):
    writer = FORMATS['coco'].write(tmp_path, DOMAIN)
    writer.add(Path('a.jpg'), np.array([[0, 3, 3], [0, 3, IGNORE_INDEX]], np.uint8), 1)
    writer.finish()
    values = json.loads((tmp_path / 'annotations' / 'instances_default.json').read_text())
    assert values['images'] == [{'id': 1, 'file_name': 'a.jpg', 'height': 2, 'width': 3}]
    assert [(each['category_id'], each['area'], each['bbox'], each['iscrowd'])
            for each in values['annotations']] == [
                (1, 2, [0, 0, 1, 2], 1), (4, 3, [1, 0, 2, 2], 1)]
    assert values['annotations'][0]['segmentation'] == {'size': [2, 3], 'counts': '024'}


def test_a_mask_of_cvat_has_the_rectangle_around_a_class(tmp_path):
    writer = FORMATS['cvat'].write(tmp_path, DOMAIN)
    writer.add(Path('a.jpg'), np.array([[0, 0, 0], [0, 2, 0], [2, 2, 0]], np.uint8), 1)
    writer.finish()
    text = (tmp_path / 'annotations.xml').read_text()
    assert ('<mask label="car" source="auto" occluded="0" rle="1, 3" left="0" top="1" width="2" '
            'height="2" z_order="0">') in text
    assert "label='road &amp; \"kerb\"'" in text
    labels = json.loads((tmp_path / 'cvat_labels.json').read_text())
    assert labels[2] == {'name': 'car', 'color': '#00008e', 'attributes': []}


def test_a_slit_leads_to_each_hole():
    def square(low, high, down=0):
        top, bottom = low + down, high + down
        return np.array([[low, top], [high, top], [high, bottom], [low, bottom]], float)

    outline = Outline(square(0, 12), (square(1, 4), square(6, 9, 1), square(5, 6)))
    ring = one_ring(outline)
    assert len(ring) == 4 * 4 + 3 * 2
    expected = Polygons([outline.outer], outline.holes).mask(12, 12)
    assert expected.sum() == 144 - 9 - 9 - 1
    np.testing.assert_array_equal(Polygons([ring]).mask(12, 12), expected)
    x, y = ring.T  # what it encloses, each part by how often it is gone round
    assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 == expected.sum()


def test_what_xml_cannot_hold_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match=r'class .a\\x01. has a character'):
        FORMATS['cvat'].write(tmp_path, Domain.create('x', ['a\x01']))
    writer = FORMATS['cvat'].write(tmp_path, DOMAIN)
    with pytest.raises(AnnotationError, match=r'frame .a\\x02\.png. has a character'):
        writer.add(Path('a\x02.png'), MASKS['one.png'], 1)
