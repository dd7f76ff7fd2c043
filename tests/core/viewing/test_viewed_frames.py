"""The frames that are looked at, and the thread that does it."""

import os

from bag_files import jpeg, pictures, raw, write_bag
import cv2
import numpy as np
import pytest
from univseg_core.errors import UnivsegError
from univseg_core.pictures.images import write_png
from univseg_core.viewing import frames, viewer
from univseg_core.viewing.frames import DroppedPictures, frame_index, open_frames
from univseg_core.viewing.looks import HEAD, LABEL_EMBEDDINGS, Seen
from univseg_core.viewing.viewer import KEPT, Viewer
from video_streams import moving, write_video


@pytest.fixture
def folder(tmp_path):
    """Return a folder of a picture, one that cannot be read, and another picture."""
    for name, picture in zip('ac', pictures(2), strict=True):
        write_png(tmp_path / 'photos' / f'{name}.png', picture)
    (tmp_path / 'photos' / 'b.png').write_bytes(b'no picture')
    return tmp_path / 'photos'


def test_a_folder_and_pictures_are_read_by_number(folder):
    (folder / 'd.heic').touch()
    with open_frames([folder]) as found:
        assert (found.name, found.count()) == (str(folder), 3)
        assert 'd.heic' in found.notes[0]
        name, image = found.read(2)
        assert name == 'c.png'
        assert np.array_equal(image, pictures(2)[1])
        with pytest.raises(UnivsegError, match=r'b\.png: not a readable image'):
            found.read(1)
        with pytest.raises(IndexError):
            found.read(3)
    with open_frames([folder / 'c.png', folder]) as found:
        assert [found.read(index)[0] for index in (0, 1)] == ['c.png', 'a.png']


@pytest.mark.parametrize(('paths', 'message'), [
    (['none'], 'no such file or folder'), (['empty'], 'no images in it'),
    (['text.txt'], r'text\.txt'), (['photos', 'text.txt'], 'one bag or video alone'),
    (['none.png'], r'none\.png')])
def test_what_cannot_be_looked_at_is_told(folder, tmp_path, paths, message):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.txt').write_text('text')
    with (pytest.raises(UnivsegError, match=message),
          open_frames([tmp_path / path for path in paths])):
        pass


@pytest.mark.parametrize('kind', ['bag', 'video'])
def test_the_frames_of_a_source_come_by_number_in_any_order(tmp_path, kind):
    if kind == 'bag':
        write_bag(tmp_path / 'drive', {
            '/early': [raw(0, pictures(1)[0])],
            '/camera': [raw(i, picture) for i, picture in enumerate(pictures(6))]})
        path, topics = tmp_path / 'drive', ['/camera']
    else:
        path, topics = write_video(tmp_path / 'drive.mp4', moving(6), range(0, 600, 100)), []
    before = sorted(tmp_path.rglob('*'))
    with open_frames([path], topics) as found:
        order = [found.read(index) for index in range(6)]
        assert found.count() == 6
        assert len({name for name, _ in order}) == 6
        for index in (4, 2, 3, 0, 5, 1):
            name, image = found.read(index)
            assert name == order[index][0]
            assert np.array_equal(image, order[index][1])
        with pytest.raises(IndexError):
            found.read(6)
        assert np.array_equal(found.read(5)[1], order[5][1])
    if kind == 'bag':
        assert np.array_equal(order[3][1], pictures(6)[3])
        assert order[3][0] == '/camera 0.30 s'
    assert sorted(tmp_path.rglob('*')) == before


def test_a_bag_that_is_read_again_begins_at_the_frame(tmp_path, monkeypatch):
    write_bag(tmp_path / 'drive', {'/camera': [raw(i, each) for i, each in
                                               enumerate(pictures(9))]})
    with open_frames([tmp_path / 'drive']) as found:
        found.read(8)
        starts = []
        begin = found._begin
        monkeypatch.setattr(found, '_begin', lambda start=0.0: starts.append(start) or
                            begin(start))
        assert found.read(7)[0] == '/camera 0.70 s'
        assert starts == [pytest.approx(0.7, abs=1e-3)]


def test_a_bag_of_several_topics_asks_for_one(tmp_path):
    write_bag(tmp_path / 'drive', {'/a': [raw(0, pictures(1)[0])],
                                   '/b': [raw(0, pictures(1)[0])]})
    with (pytest.raises(UnivsegError, match='expected one image topic, or --topic'),
          open_frames([tmp_path / 'drive'])):
        pass


def test_dropped_pictures_are_judged_before_they_are_kept(monkeypatch):
    dropped = DroppedPictures()
    with pytest.raises(UnivsegError, match=r'a\\nb\.png: not a readable image'):
        dropped.add('a\nb.png', b'no picture')
    picture = pictures(1)[0]
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', str(picture.shape[0] * picture.shape[1] - 1))
    with pytest.raises(UnivsegError, match='UNIVSEG_MAX_PIXELS'):
        dropped.add('large.jpg', jpeg(picture))
    monkeypatch.delenv('UNIVSEG_MAX_PIXELS')
    dropped.add('c.jpg', jpeg(picture))
    assert dropped.count() == 1
    name, image = dropped.read(0)
    assert name == 'c.jpg'
    assert np.array_equal(image, cv2.imdecode(np.frombuffer(jpeg(picture), np.uint8),
                                              cv2.IMREAD_COLOR)[..., ::-1])
    monkeypatch.setattr(frames, 'MOST_DROPPED', 2 * len(jpeg(picture)) - 1)
    with pytest.raises(UnivsegError, match='give their folder to the command'):
        dropped.add('d.jpg', jpeg(picture))
    assert dropped.count() == 1


@pytest.fixture
def looked_at(monkeypatch):
    """Return the names of the frames that are looked at; what is seen of one is its name."""
    names = []
    monkeypatch.setattr(viewer, 'see', lambda _, name, image, by:
                        names.append((name, by)) or Seen(name, image, {}, None))
    return names


def test_what_cannot_be_read_is_named_and_passed_over_both_ways(folder, looked_at):
    with Viewer(None, [folder]) as found:
        forward = found.find(found.given, 1).result()
        back = found.find(found.given, 1, -1).result()
        behind = found.find(found.given, 3).result()
        none = found.find(found.dropped, 0).result()
    assert (forward.index, forward.seen.name) == (2, 'c.png')
    assert (back.index, back.seen.name) == (0, 'a.png')
    assert forward.skipped == back.skipped
    assert forward.skipped[0].startswith(f'{folder / "b.png"}: not a readable image')
    assert (behind.index, behind.seen, behind.skipped) == (None, None, [])
    assert none.index is None


def test_the_last_results_are_kept(tmp_path, looked_at):
    for i in range(KEPT + 1):
        write_png(tmp_path / f'{i}.png', pictures(1)[0])
    with Viewer(None, [tmp_path]) as found:
        for i in (0, 0, 1, 0, *range(KEPT + 1), KEPT, 2, 0):
            found.find(found.given, i).result()
    assert looked_at == [(f'{i}.png', HEAD) for i in (*range(KEPT + 1), 0)]


def test_by_label_embeddings_a_frame_is_looked_at_again(folder, looked_at):
    with Viewer(None, [folder]) as found:
        for by in (HEAD, LABEL_EMBEDDINGS, HEAD):
            found.find(found.given, 0, by=by).result()
    assert looked_at == [('a.png', HEAD), ('a.png', LABEL_EMBEDDINGS)]


def test_a_frame_by_its_number():
    assert [frame_index(text, 30) for text in ('1', ' 30 ', '007')] == [0, 29, 6]
    assert frame_index('31', None) == 30


@pytest.mark.parametrize(('text', 'count', 'message'), [
    ('31', 30, "frame '31': expected a number from 1 to 30"),
    ('0', 30, 'from 1 to 30'), ('-1', None, "'-1': expected a number from 1"),
    ('2.5', 30, r"'2\.5'"), ('a\nb', 30, r"'a\\\\nb'")])
def test_what_is_no_number_of_a_frame_is_told(text, count, message):
    with pytest.raises(UnivsegError, match=message):
        frame_index(text, count)


def test_a_viewer_that_cannot_open_its_frames_leaves_no_thread(tmp_path):
    with pytest.raises(UnivsegError, match='no such file'):
        Viewer(None, [tmp_path / 'none'])


def test_a_file_name_that_is_no_text_is_spelt_out(tmp_path):
    path = tmp_path / os.fsdecode(b'stra\xdfe\n.png')
    write_png(path, pictures(1)[0])
    with open_frames([path]) as found:
        assert found.read(0)[0] == r'stra\xdfe\n.png'
