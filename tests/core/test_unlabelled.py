"""Bags that a configuration names as a domain's unlabelled images."""

from bag_files import pictures, raw, storage_file, write_bag
import pytest
from univseg_core.batches.dataset import load_data
from univseg_core.datasets import unlabelled as module
from univseg_core.datasets.folders import DataError
from univseg_core.pictures.images import read_image
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError
from video_streams import moving, write_video


@pytest.fixture
def bag(tmp_path, monkeypatch):
    """Return a bag with two topics of different length, and an empty cache."""
    monkeypatch.setenv('UNIVSEG_CACHE', str(tmp_path / 'cache'))
    messages = [raw(number, picture) for number, picture in enumerate(pictures(3))]
    return write_bag(tmp_path / 'bag', {'/front': messages, '/rear': messages[:1]})


def unlabelled(values, write_config, source):
    """Return the further unlabelled images of a configuration that names a source of them."""
    values['domains']['outdoor'] |= {'unlabelled': [str(source)],
                                     'labelled_also_unlabelled': False, 'labelled': None}
    return [sample.image for sample in load_data(load_config(write_config(values)))[
        'outdoor'].unlabelled]


def test_frames_are_extracted_once(bag, values, write_config, tmp_path, monkeypatch):
    images = unlabelled(values, write_config, f'{bag}:/front')
    assert [read_image(image).shape for image in images] == [(32, 48, 3)] * 3
    assert all((tmp_path / 'cache') in image.parents for image in images)
    assert len(unlabelled(values, write_config, f'{bag}:/rear')) == 1
    monkeypatch.setattr(module, 'extract_frames', None)
    assert unlabelled(values, write_config, f'{bag}:/front') == images


def test_an_unfinished_bag_is_looked_at_anew(bag, values, write_config):
    (bag / 'metadata.yaml').unlink()
    file = storage_file(bag)
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole) // 2])
    few = unlabelled(values, write_config, f'{bag}:/front')
    assert 0 < len(few) < 3
    with file.open('r+b') as growing:  # as a recorder does it
        growing.seek(0, 2)
        growing.write(whole[len(whole) // 2:])
    images = unlabelled(values, write_config, f'{bag}:/front')
    assert len(images) == 3
    assert images[:len(few)] == few


def test_a_file_of_a_bag(values, write_config, tmp_path, monkeypatch):
    monkeypatch.setenv('UNIVSEG_CACHE', str(tmp_path / 'cache'))
    bag = write_bag(tmp_path / 'bag', {'/front': [raw(0, picture) for picture in pictures(1)]})
    assert len(unlabelled(values, write_config, storage_file(bag))) == 1
    assert len(unlabelled(values, write_config, bag)) == 1


def test_a_bag_without_a_frame(bag, values, write_config):
    with pytest.raises(DataError, match=r'no frame: .*has no topic /top; .*: /front, /rear'):
        unlabelled(values, write_config, f'{bag}:/top')
    with pytest.raises(DataError, match='expected one image topic'):
        unlabelled(values, write_config, bag)


def test_a_video(values, write_config, tmp_path, monkeypatch):
    monkeypatch.setenv('UNIVSEG_CACHE', str(tmp_path / 'cache'))
    video = write_video(tmp_path / 'drive.mp4', moving(3), [0, 500, 1000])
    images = unlabelled(values, write_config, video)
    assert [read_image(image).shape for image in images] == [(64, 96, 3)] * 3
    monkeypatch.setattr(module, 'extract_frames', None)
    assert unlabelled(values, write_config, video) == images


def test_a_file_that_is_no_video(values, write_config, tmp_path, monkeypatch):
    monkeypatch.setenv('UNIVSEG_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'notes.txt').write_text('not a video')
    with pytest.raises(DataError, match=r'notes\.txt: no frame: .*not a readable video'):
        unlabelled(values, write_config, tmp_path / 'notes.txt')


def test_no_bag(values, write_config, tmp_path):
    with pytest.raises(ConfigError, match=r'no such folder: .*none:/front \(nor a ROS 2 bag or a'):
        unlabelled(values, write_config, tmp_path / 'none:/front')
