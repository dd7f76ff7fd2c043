"""What annotations call an image is found among the frames."""

from pathlib import Path

import pytest
from univseg_core.labelling.frame_names import FrameNames

FLAT = [Path('/f/a.png'), Path('/f/b.c.jpg'), Path('/f/é.png')]


@pytest.mark.parametrize(('names', 'frame'), [
    (['a.png'], 'a.png'), (['a.jpg'], 'a.png'), (['a'], 'a.png'), (['b.c'], 'b.c.jpg'),
    (['train/images/a.png'], 'a.png'), (['C:\\data\\a.png'], 'a.png'), (['b.c.png'], 'b.c.jpg'),
    (['e\u0301.png'], 'é.png'), (['gone.png', 'upload/a.png'], 'a.png'),
    (['a.jpg', 'é.png'], 'é.png')])
def test_a_name_is_that_of_a_file_or_that_but_for_the_ending(names, frame):
    assert FrameNames(FLAT).find(names) == Path('/f') / frame


def test_a_name_of_no_frame_is_told():
    assert FrameNames(FLAT).find(['b.d.jpg']) == (
        'no frame is called so; did you mean b.c.jpg?')
    assert FrameNames(FLAT).find(['frame_000001.jpg']) == 'no frame is called so'


def test_a_frame_of_the_very_name_comes_before_one_of_another_ending():
    frames = [Path('/f/a.png'), Path('/f/a.png.jpg')]
    assert FrameNames(frames).find(['a.png']) == frames[0]
    assert FrameNames(frames).find(['a.png.png']) == frames[1]
