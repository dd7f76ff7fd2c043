"""What annotations call an image is found among the frames."""

from pathlib import Path

import pytest
from univseg_core.labelling.frame_names import FrameNames

FLAT = [Path('/f/a.png'), Path('/f/b.c.jpg'), Path('/f/é.png')]
NESTED = [Path('/f/left/0.jpg'), Path('/f/right/0.jpg'), Path('/f/right/1.jpg')]


@pytest.mark.parametrize(('names', 'frame'), [
    (['a.png'], 'a.png'), (['a.jpg'], 'a.png'), (['a'], 'a.png'), (['b.c'], 'b.c.jpg'),
    (['train/images/a.png'], 'a.png'), (['C:\\data\\a.png'], 'a.png'), (['b.c.png'], 'b.c.jpg'),
    (['e\u0301.png'], 'é.png'), (['gone.png', 'upload/a.png'], 'a.png'),
    (['a.jpg', 'é.png'], 'é.png')])
def test_a_name_is_that_of_a_file_or_that_but_for_the_ending(names, frame):
    assert FrameNames(FLAT).find(names) == Path('/f') / frame


@pytest.mark.parametrize(('name', 'frame'), [
    ('left/0.jpg', 'left/0.jpg'), ('x/right/0.png', 'right/0.jpg'), ('1.jpg', 'right/1.jpg'),
    ('other/1.jpg', 'right/1.jpg')])
def test_of_several_the_folders_before_it_tell(name, frame):
    assert FrameNames(NESTED).find([name]) == Path('/f') / frame


def test_a_name_of_no_frame_or_of_several_is_told():
    assert FrameNames(FLAT).find(['b.d.jpg']) == (
        'no frame is called so; did you mean b.c.jpg?')
    assert FrameNames(FLAT).find(['frame_000001.jpg']) == 'no frame is called so'
    assert FrameNames(NESTED).find(['0.jpg']) == (
        'may be any of 2 frames: /f/left/0.jpg, /f/right/0.jpg')
