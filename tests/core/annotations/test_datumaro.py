"""What is written for CVAT and COCO is read by Datumaro, with which CVAT reads it."""

from pathlib import Path

from drawn_maps import DOMAIN, drawn_map
import numpy as np
import pytest
from univseg_core.annotations.formats import FORMATS
from univseg_core.domains import IGNORE_INDEX
from univseg_core.pictures.images import write_png

datumaro = pytest.importorskip('datumaro')

MASK = drawn_map()


def read(folder, name):
    """Return the classes (H, W) that Datumaro finds of each image by its name, and how often."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset
    from datumaro.util.mask_tools import rles_to_mask

    dataset = Dataset.import_from(str(folder), name)
    labels = dataset.categories()[AnnotationType.label]
    found = {}
    for item in dataset:
        classes = np.full(MASK.shape, IGNORE_INDEX)
        for each in item.annotations:
            if each.type == AnnotationType.polygon:
                covered = rles_to_mask([each.points], *MASK.shape[::-1]).astype(bool)
            elif each.type == AnnotationType.mask:
                covered = np.asarray(each.image).astype(bool)
            else:
                continue
            label = labels[each.label].name
            classes[covered] = DOMAIN.classes.index(label) if label in DOMAIN.classes else 255
        found[item.id] = classes
    return found


@pytest.mark.parametrize('backend', ['cv2', 'PIL'])
def test_either_backend_reads_segmentation_masks(tmp_path, backend):
    from datumaro.util import image

    writer = FORMATS['masks'].write(tmp_path, DOMAIN)
    writer.add(Path('a.png'), MASK, 1)
    writer.finish()
    token = image.IMAGE_BACKEND.set(image.ImageBackend[backend])
    try:
        np.testing.assert_array_equal(read(tmp_path, 'voc_segmentation')['a'], MASK)
    finally:
        image.IMAGE_BACKEND.reset(token)


@pytest.mark.parametrize(('name', 'theirs', 'most'), [
    ('coco', 'coco_instances', 0), ('coco-polygons', 'coco_instances', 0.005),
    ('cvat', 'cvat', 0), ('cvat-polygons', 'cvat', 0.005)])
def test_datumaro_reads_what_is_written(tmp_path, name, theirs, most):
    writer = FORMATS[name].write(tmp_path, DOMAIN)
    for file in ('a.png', 'b.png'):
        write_png(tmp_path / 'images' / file, np.zeros((*MASK.shape, 3), np.uint8))
        writer.add(Path(file), MASK, 1)
    writer.finish()
    found = read(tmp_path, theirs)
    assert sorted(found) == ['a', 'b']
    for classes in found.values():
        assert (classes != MASK).mean() <= most
