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


@pytest.mark.parametrize('name', ['IMG_7.png', 'img_7.JPG', 'IMG_7'])
def test_what_the_command_frames_makes_of_a_name_is_proposed(name):
    frames = [*FLAT, Path('/f/a long folder of photos-IMG_7.jpg'), Path('/f/IMG_70.jpg')]
    assert FrameNames(frames).find([name]) == (
        'no frame is called so; did you mean a long folder of photos-IMG_7.jpg, a name that the '
        'command frames gives?')


def test_frames_of_other_numbers_are_not_proposed():
    frames = [Path(f'/f/0016E5_{number}.png') for number in ('08079', '07961b', '7961')]
    assert FrameNames(frames).find(['0016E5_07960']) == 'no frame is called so'
    assert FrameNames(frames).find(['0016E5-07961.jpg']) == (
        'no frame is called so; did you mean 0016E5_07961b.png?')


def test_of_several_frames_that_end_alike_all_are_proposed():
    frames = [Path('/f/left-7.jpg'), Path('/f/right-7.jpg'), Path('/f/right-17.jpg')]
    assert FrameNames(frames).find(['7.png']).endswith(
        'mean left-7.jpg, right-7.jpg, names that the command frames gives?')


def test_names_that_are_found_cost_no_proposals(monkeypatch):
    monkeypatch.setattr('univseg_core.labelling.frame_names.did_you_mean_frame', None)
    assert FrameNames(FLAT).find(['a']) == FLAT[0]
    assert 'in other folders' in FrameNames([Path('/f/x/a.png')], Path('/f')).find(['y/a.png'])


@pytest.mark.parametrize('name', ['b.back', 'b.v2.jpg', 'a.back'])
def test_what_is_behind_a_dot_is_no_ending_unless_it_is_that_of_a_picture(name):
    assert str(FrameNames([*FLAT, Path('/f/b.jpg')]).find([name])).startswith('no frame is called')


TREE = [Path('/f') / name for name in (
    'camA/000001.jpg', 'camB/000001.jpg', 'camB/000002.jpg', 'x/camA/train/3.png',
    'x/camA/val/3.png')]


@pytest.mark.parametrize(('name', 'frame'), [
    ('camB/000001.jpg', TREE[1]), ('set/camA/000001.png', TREE[0]), ('000002.jpg', TREE[2]),
    ('images/000002.jpg', TREE[2]), ('C:\\data\\camB\\000002', TREE[2]),
    ('camA/val/3.png', TREE[4]), ('val/3.png', TREE[4])])
def test_folders_tell_frames_of_one_name_apart(name, frame):
    assert FrameNames(TREE, Path('/f')).find([name]) == frame


def test_a_frame_in_the_folder_comes_before_one_of_the_very_name_elsewhere():
    frames = [Path('/f/camA/1.jpg'), Path('/f/camB/1.png')]
    assert FrameNames(frames, Path('/f')).find(['camA/1.png']) == frames[0]
    assert 'in other folders' in FrameNames(frames[1:], Path('/f')).find(['camA/1.png', '1.png'])


@pytest.mark.parametrize(('name', 'message'), [
    ('000001.jpg', 'several frames are called so (camA/000001.jpg, camB/000001.jpg)'),
    ('3.png', 'several frames are called so (x/camA/train/3.png, '),
    ('camC/000001.jpg', 'of that name are in other folders (camA/000001.jpg, camB/000001.jpg)'),
    ('camA/000002.jpg', 'the frames of that name are in other folders (camB/000002.jpg)')])
def test_a_frame_in_another_folder_is_not_meant(name, message):
    assert message in FrameNames(TREE, Path('/f')).find([name])


def test_a_frame_of_the_very_name_comes_before_one_of_another_ending():
    frames = [Path('/f/a.png'), Path('/f/a.png.jpg')]
    assert FrameNames(frames).find(['a.png']) == frames[0]
    assert FrameNames(frames).find(['a.png.png']) == frames[1]
