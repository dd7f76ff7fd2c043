"""What any format writes is recognised and read again."""

import json

import cv2
import numpy as np
import pytest
from univseg_core.annotations.formats import FORMATS
from univseg_core.annotations.painting import painted
from univseg_core.domains import Domain, IGNORE_INDEX

OF_POLYGONS = ('coco-polygons', 'cvat-polygons', 'labelme')
"""Formats whose outlines are simplified; in all others, each pixel comes back."""

WRITTEN = [name for name, each in FORMATS.items() if each.write]

YARD = Domain.create('yard', ('road', 'tree trunk', 'Weg', 'sky'))

HEIGHT, WIDTH = 240, 320


def masks():
    """Yield masks (H, W): of large, small, thin and nested regions; of void; of a class."""
    generator = np.random.default_rng(0)
    likely = [cv2.GaussianBlur(generator.random((HEIGHT, WIDTH)), (0, 0), 12) for _ in range(5)]
    mask = np.argmax(likely, 0).astype(np.uint8)
    mask[mask == 4] = IGNORE_INDEX
    for i, value in enumerate((0, 1, IGNORE_INDEX, 2, 0)):
        mask[20 + 8 * i:100 - 8 * i, 30 + 8 * i:110 - 8 * i] = value
    mask[200, 10:300] = 3
    mask[150:190, 5] = 1
    mask[230, 230] = 2
    mask[range(160, 180), range(160, 180)] = 0
    yield mask
    yield np.full((HEIGHT, WIDTH), IGNORE_INDEX, np.uint8)
    yield np.full((HEIGHT, WIDTH), 3, np.uint8)


def reader_of(folder):
    """Return what reads a folder: the one format that it is recognised as."""
    form, = (each for each in FORMATS.values() if each.read and each.recognises(folder))
    return form


def accept(file):
    """Make annotations of the predictions of Label Studio's tasks, as those who submit them do."""
    tasks = json.loads(file.read_text())
    for number, task in enumerate(tasks, 1):
        prediction, = task.pop('predictions')
        task |= {'id': number, 'annotations': [{'id': number, 'result': prediction['result']}]}
    file.write_text(json.dumps(tasks))


BACKGROUND = Domain.create('background', ('background', 'void', 'Weg', 'sky'))
"""Classes that formats would call what is no class."""


@pytest.mark.parametrize(('name', 'domain'), [
    *((name, YARD) for name in WRITTEN),
    # A labelmap.txt cannot hold a class background, which the writer of masks says.
    *((name, BACKGROUND) for name in WRITTEN if name != 'masks')])
def test_what_is_written_is_recognised_and_read_again(tmp_path, name, domain):
    folder = tmp_path / name
    (folder / 'images').mkdir(parents=True)
    writer, sent = FORMATS[name].write(folder, domain), {}
    for i, mask in enumerate(masks()):
        frame = folder / 'images' / f'camera-{i}.5.png'
        cv2.imwrite(str(frame), np.full((HEIGHT, WIDTH, 3), 40 * i, np.uint8))
        writer.add(frame, mask, 0.7)
        sent[frame] = mask
    writer.finish()
    if name == 'label-studio':
        accept(folder / 'tasks.json')

    index_of = {name: index for index, name in enumerate(domain.classes)}
    back = {}
    for image in reader_of(folder).read(folder):
        frame, = (frame for frame in sent
                  if any(known in each for each in (image.image, *image.also)
                         for known in (frame.name, frame.stem)))
        assert frame not in back
        others = {each.label: IGNORE_INDEX for each in image.regions}
        back[frame] = painted(image, HEIGHT, WIDTH, {**others, **index_of})
    for frame, mask in sent.items():
        # Of a frame without any region, a tool may have nothing to say.
        again = back.get(frame, np.full_like(mask, IGNORE_INDEX))
        if name in OF_POLYGONS:
            assert (again != mask).mean() <= 0.005
            assert np.unique(again).tolist() == np.unique(mask).tolist()
        else:
            np.testing.assert_array_equal(again, mask)
