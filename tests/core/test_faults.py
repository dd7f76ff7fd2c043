"""Images that cannot be read: which seem whole, and how many a run can do without."""

import os

import cv2
import pytest
from tiny_worlds import random_image
from univseg_core.batches.faults import FaultCount, named, seems_whole
from univseg_core.datasets.folders import DataError
from univseg_core.pictures.images import write_png


def test_faults_are_counted_once():
    count = FaultCount(100)
    assert count.add(['a: gone', 'b: gone', 'a: gone']) == ['a: gone', 'b: gone']
    assert count.add(['b: gone', 'c: gone']) == ['c: gone']
    assert count.add([]) == []
    assert count.files == 3


@pytest.mark.parametrize(('images', 'allowed'), [
    (1, 0), (3, 0), (4, 1), (8, 2), (20, 5), (100, 5), (119, 5), (120, 6), (2000, 100)])
def test_a_run_can_do_without_some(images, allowed):
    """Without a twentieth, or five where that is more, but no more than a quarter of few."""
    count = FaultCount(images)
    count.add(f'{i}: gone' for i in range(allowed))
    count.check()
    count.add(['one: more'])
    with pytest.raises(DataError, match=rf'^{allowed + 1} of {images} images could not be read; '
                                        rf'more than {allowed} are too many:\n  '):
        count.check()


def test_the_first_ten_are_named():
    assert named(['a', 'b']) == '\n  a\n  b'
    assert named([str(i) for i in range(12)]).endswith('\n  9\n  … and 2 more')


def test_a_file_seems_whole_by_its_beginning_and_end(tmp_path):
    image, path = random_image(20, 30), tmp_path / 'image'
    write_png(tmp_path / 'whole.png', image)
    png = (tmp_path / 'whole.png').read_bytes()
    jpeg, bitmap = (cv2.imencode(ending, image)[1].tobytes() for ending in ('.jpg', '.bmp'))
    for data, seems in ((png, True), (jpeg, True), (bitmap, True), (png[:-100], False),
                        (jpeg[:-100], False), (b'', False), (b'no image', False),
                        (jpeg + bytes(1000), False)):
        path.write_bytes(data)
        assert seems_whole(path) == seems
    assert not seems_whole(tmp_path / 'none.png')
    os.mkfifo(tmp_path / 'pipe.png')
    assert not seems_whole(tmp_path / 'pipe.png')
