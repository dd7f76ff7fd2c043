"""What folders, videos and bags yield, and what is said of those that cannot be played."""

import array
import itertools
import os
import shutil
import sqlite3

import cv2
import numpy as np
import PIL.Image
import pytest
from rclpy.serialization import serialize_message
from recordings import (
    add_images,
    pictures,
    record_and_be_killed,
    write_bag,
    write_folder,
    write_video,
)
from rosbags.rosbag2 import Writer
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.pictures.image_messages import decode, MessageError
from univseg_ros.image_sources import FOLDER_RATE, jpeg_message, open_source, SourceError


@pytest.fixture
def images():
    """Return three different RGB pictures (4, 6, 3) uint8."""
    return pictures()


def play(path, topic=None, compressed=None):
    """Return a source's type, its frames, and what was said of all that was not played."""
    skipped = []
    source = open_source(path, topic, compressed, skipped.append, skipped.append)
    frames = list(source)
    assert all(isinstance(frame.message, source.type) for frame in frames)
    assert all(isinstance(frame.message.data, array.array) for frame in frames)
    return source.type, frames, skipped


def assert_are(frames, images, tolerance=0):
    assert len(frames) == len(images)
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_allclose(decode(frame.message), image, atol=tolerance)


@pytest.mark.parametrize('compressed', [False, True])
def test_a_photo_that_exif_data_turns_is_played_upright(tmp_path, compressed):
    """As JPEG, too: who decodes a message may not look at its EXIF data."""
    left = np.zeros((32, 48, 3), np.uint8)
    left[:, :24] = 200
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(left).save(tmp_path / 'a.jpg', exif=exif)
    (tmp_path / '._a.jpg').write_bytes(b'of a Mac')
    _, frames, skipped = play(tmp_path, compressed=compressed)
    assert not skipped
    assert_are(frames, [np.rot90(left, -1)], tolerance=8)


def refusal(path, topic=None, compressed=None):
    """Return why a source cannot be played, at once or while it is."""
    with pytest.raises(SourceError) as refused:
        play(path, topic, compressed)
    return str(refused.value)


def test_a_folder_in_the_order_of_its_names(tmp_path, images):
    type_, frames, skipped = play(write_folder(tmp_path, images))
    assert type_ is Image
    assert_are(frames, images)
    assert [frame.seconds for frame in frames] == [n / FOLDER_RATE for n in range(3)]
    assert not skipped


def test_compressed_files_of_a_folder_are_sent_as_they_are_and_others_as_jpeg(tmp_path, images):
    cv2.imwrite(str(tmp_path / 'a.jpg'), images[0])
    cv2.imwrite(str(tmp_path / 'b.PNG'), images[1])
    plain = np.full((8, 8, 3), 90, np.uint8)
    cv2.imwrite(str(tmp_path / 'c.bmp'), plain)
    type_, frames, _ = play(tmp_path, compressed=True)
    assert type_ is CompressedImage
    assert [frame.message.format for frame in frames] == ['jpeg', 'png', 'jpeg']
    assert frames[0].message.data.tobytes() == (tmp_path / 'a.jpg').read_bytes()
    assert frames[1].message.data.tobytes() == (tmp_path / 'b.PNG').read_bytes()
    assert_are(frames[2:], [plain], tolerance=2)


def test_an_image_file_is_a_folder_of_one(tmp_path, images):
    write_folder(tmp_path, images)
    _, frames, _ = play(tmp_path / 'b.png')
    assert_are(frames, images[1:2])


def test_what_is_damaged_or_gone_is_skipped_and_named(tmp_path, images):
    write_folder(tmp_path, images)
    (tmp_path / 'aa.png').write_bytes((tmp_path / 'a.png').read_bytes()[:40])
    (tmp_path / 'bb.png').mkdir()
    skipped = []
    source = open_source(tmp_path, None, None, skipped.append, pytest.fail)
    (tmp_path / 'c.png').unlink()
    assert_are(list(source), images[:2])
    assert [reason.split(':')[0] for reason in skipped] == [
        str(tmp_path / name) for name in ('aa.png', 'bb.png', 'c.png')]


def test_a_file_that_is_gone_is_skipped_as_compressed_image_too(tmp_path, images):
    write_folder(tmp_path, images)
    skipped = []
    source = open_source(tmp_path, None, True, skipped.append, pytest.fail)
    (tmp_path / 'a.png').unlink()
    assert_are(list(source), images[1:])
    assert 'a.png: cannot be read: No such file' in skipped[0]


@pytest.mark.parametrize('compressed', [False, True])
def test_a_video_at_its_own_rate(tmp_path, compressed):
    greys = [10, 100, 200]
    type_, frames, _ = play(write_video(tmp_path / 'a.avi', greys), compressed=compressed)
    assert type_ is (CompressedImage if compressed else Image)
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.08, 0.16])
    assert_are(frames, [np.full((48, 64, 3), grey) for grey in greys], tolerance=4)


def test_a_video_in_its_colours(tmp_path):
    path = str(tmp_path / 'a.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    writer.write(np.full((48, 64, 3), (20, 60, 200), np.uint8))  # BGR
    writer.release()
    _, frames, _ = play(tmp_path / 'a.avi')
    assert_are(frames, [np.full((48, 64, 3), (200, 60, 20))], tolerance=6)


def test_a_video_can_be_played_again(tmp_path):
    source = open_source(write_video(tmp_path / 'a.avi', [10, 200]), None, None, pytest.fail,
                         pytest.fail)
    assert_are(list(source), [decode(frame.message) for frame in source])


def test_a_video_larger_than_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    video = write_video(tmp_path / 'a.avi', [10])
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '3072')  # 64x48
    assert len(play(video)[1]) == 1
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '3071')
    monkeypatch.setattr(cv2.VideoCapture, 'read', None)
    assert refusal(video) == (f'{video}: pictures of 3072 pixels, more than 3071 pixels, which '
                              'UNIVSEG_MAX_PIXELS changes')


def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / 'a.mp4')
    assert refusal(tmp_path / 'a.mp4').endswith('a.mp4: cannot be read: expected a file')


@pytest.mark.parametrize('name', ['notes.txt', 'notes.mp4', 'notes.avi', 'notes'])
def test_a_text_is_no_video(tmp_path, name):
    (tmp_path / name).write_text('not a video\n' * 100)
    assert f'{tmp_path / name}: not a readable video' in refusal(tmp_path / name)


@pytest.mark.parametrize('content', [b'', b'\0' * 5000, bytes(range(256)) * 100])
def test_garbage_is_no_video(tmp_path, content):
    (tmp_path / 'a.mp4').write_bytes(content)
    assert 'a.mp4: not a readable video' in refusal(tmp_path / 'a.mp4')


@pytest.mark.parametrize('storage', ['sqlite3', 'mcap'])
@pytest.mark.parametrize('as_file', [False, True])
def test_a_bag_as_it_was_recorded(tmp_path, images, storage, as_file):
    bag = write_bag(tmp_path / 'bag', images, storage, interval=10**8)
    if as_file:
        bag = next(path for path in bag.iterdir() if path.suffix != '.yaml')
    for topic, expected in (('/front', Image), ('/back', CompressedImage)):
        type_, frames, skipped = play(bag, topic)
        assert type_ is expected
        assert_are(frames, images)
        assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.2])
        assert [frame.message.header.stamp.sec for frame in frames] == [100, 101, 102]
        assert not skipped


def test_a_bag_in_the_other_form(tmp_path, images):
    smooth = [np.full((16, 16, 3), image[0, 0], np.uint8) for image in images]
    bag = write_bag(tmp_path / 'bag', smooth)
    type_, frames, _ = play(bag, '/front', compressed=True)
    assert type_ is CompressedImage
    assert_are(frames, smooth, tolerance=6)
    type_, back, _ = play(bag, '/back', compressed=False)
    assert type_ is Image
    assert_are(back, smooth)
    for frame in frames + back:
        assert (frame.message.header.stamp.nanosec, frame.message.header.frame_id) == (
            5, 'front_camera')


def test_messages_of_a_bag_that_cannot_be_used_are_skipped(tmp_path, images):
    module = pytest.importorskip('rosbags.rosbag2', reason='needs rosbags')
    from rosbags.typesys import get_typestore, Stores
    with module.Writer(tmp_path / 'bag', version=9) as writer:
        add_images(writer, images, 1)
        broken = writer.add_connection('/broken', 'sensor_msgs/msg/Image',
                                       typestore=get_typestore(Stores.ROS2_JAZZY))
        writer.write(broken, 5, b'\0\1\0\0rubbish')
        writer.write(broken, 6, b'')
    # A picture that says that it is larger than its bytes.
    with sqlite3.connect(tmp_path / 'bag' / 'bag.db3') as database:
        topic, = database.execute("SELECT id FROM topics WHERE name = '/back'").fetchone()
        number, data = database.execute(
            'SELECT id, data FROM messages WHERE topic_id = ?', (topic,)).fetchone()
        database.execute('UPDATE messages SET data = ? WHERE id = ?',
                         (data.replace(b'IHDR', b'XXXX'), number))
    _, frames, skipped = play(tmp_path / 'bag', '/broken')
    assert not frames
    assert len(skipped) == 2
    assert all('cannot be deserialised' in reason for reason in skipped)
    _, frames, skipped = play(tmp_path / 'bag', '/back', compressed=False)
    assert_are(frames, images[1:])
    assert f'{tmp_path / "bag"}: compressed image' in skipped[0]


def test_a_bag_s_messages_are_played_as_they_were_written(tmp_path, images):
    bag = write_bag(tmp_path / 'bag', images, 'mcap', interval=-10**8)
    _, frames, _ = play(bag, '/front')
    assert_are(frames, images)
    assert [frame.seconds for frame in frames] == [0, 0, 0]  # a clock that was set back


@pytest.mark.parametrize('storage', ['sqlite3', 'mcap'])
def test_a_bag_of_which_nothing_can_be_read_is_named(tmp_path, images, storage):
    bag = write_bag(tmp_path / 'bag', pictures(30, (20, 30)), storage)
    file = next(path for path in bag.iterdir() if path.suffix != '.yaml')
    whole = file.read_bytes()
    for content in (b'', b'rubbish' * 100, whole[:200]):
        file.write_bytes(content)
        for path in (bag, file):
            assert refusal(path, '/front').startswith(
                f'{path}: not a readable ROS 2 bag: {file}: ')
    flipped = bytearray(whole)
    for at in range(0, len(whole), 97):
        flipped[at] ^= 0x55
    file.write_bytes(flipped)
    assert refusal(bag, '/front').startswith(f'{bag}: ')
    file.unlink()
    assert f'not a readable ROS 2 bag: {file}: this file of the bag is missing' in refusal(
        bag, '/front')


@pytest.mark.parametrize('topic', ['/front', '/back'])
@pytest.mark.parametrize('share', [0.25, 0.5, 0.75, 0.99])
def test_a_bag_that_is_cut_off_is_played_as_far_as_it_goes(tmp_path, topic, share):
    images = pictures(30, (20, 30))
    bag = write_bag(tmp_path / 'bag', images, 'mcap')
    file = next(path for path in bag.iterdir() if path.suffix != '.yaml')
    file.write_bytes(file.read_bytes()[:int(share * file.stat().st_size)])
    _, frames, told = play(bag, topic)
    assert len(frames) >= 30 * share - 5
    assert_are(frames, images[:len(frames)])
    # What is behind the messages is not missed.
    assert [text.partition(' at byte ')[0] for text in told] == (
        [f'{file}: broken'] if len(frames) < 30 else [])


def test_a_bag_that_a_killed_recorder_left_is_played(tmp_path, images):
    bag = record_and_be_killed(tmp_path / 'bag', images)
    file = bag / 'bag_0.mcap'
    for path in (bag, file):
        source = open_source(path, None, None, pytest.fail, (told := []).append)
        for _ in range(2):
            assert_are(list(source), images)
        assert told == [f'{file}: broken at byte {file.stat().st_size}: the end is missing']


def test_a_bag_without_metadata_is_played(tmp_path, images):
    bag = write_bag(tmp_path / 'bag', images)
    (bag / 'metadata.yaml').unlink()
    _, frames, told = play(bag, '/front')
    assert_are(frames, images)
    assert not told


def test_a_bag_without_images(tmp_path, images):
    bag = write_bag(tmp_path / 'bag', images)
    assert 'name one with --topic. Its image topics: /back, /front' in refusal(bag)
    assert 'no images on /text. Its image topics: /back, /front' in refusal(bag, '/text')
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import get_typestore, Stores
    bag = tmp_path / 'texts'
    with Writer(bag, version=9) as writer:
        writer.add_connection('/text', 'std_msgs/msg/String',
                              typestore=get_typestore(Stores.ROS2_JAZZY))
    assert refusal(bag) == f'{bag}: expected one image topic; Its image topics: none'


def test_what_is_nothing_of_all_that(tmp_path, images):
    assert 'nowhere: not there; expected a folder of images, a video or' in refusal(
        tmp_path / 'nowhere')
    assert f'{tmp_path}: no images in it; expected .png' in refusal(tmp_path)
    folder = write_folder(tmp_path / 'folder', images)
    assert 'not a bag, and so without the topic /front' in refusal(folder, '/front')
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')
    assert 'old.bag: not a ROS 2 bag; expected' in refusal(tmp_path / 'old.bag')


def test_sources_can_be_left_in_the_middle(tmp_path, images):
    """And leave nothing open behind that would keep a folder from being removed."""
    write_folder(tmp_path / 'folder', images)
    bag = write_bag(tmp_path / 'bag', images)
    video = write_video(tmp_path / 'a.avi', [10, 20, 30])
    for path, topic in ((tmp_path / 'folder', None), (bag, '/front'), (video, None)):
        frames = iter(open_source(path, topic, None, pytest.fail, pytest.fail))
        assert len(list(itertools.islice(frames, 1))) == 1
        frames.close()
        assert len(play(path, topic)[1]) == 3
    shutil.rmtree(bag)


def test_a_picture_that_no_jpeg_can_hold():
    with pytest.raises(MessageError, match='70000x1 pixels is too large for a JPEG'):
        jpeg_message(np.zeros((1, 70000, 3), np.uint8), Header())


def bag_of(path, topic, type_, data):
    """Return a bag of three messages of one topic, given as bytes in CDR."""
    with Writer(path, version=9) as writer:
        connection = writer.add_connection(topic, type_, msgdef='uint8[] data', rihs01='RIHS01_0')
        for number in range(3):
            writer.write(connection, number, data)
    return path


def test_packets_of_a_video_are_sent_as_they_are_with_one_word(tmp_path):
    packet = CompressedImage(format='h264', data=array.array('B', b'\0\0\0\1g'))
    bag = bag_of(tmp_path / 'bag', '/cam', 'sensor_msgs/msg/CompressedImage',
                 serialize_message(packet))
    _, frames, told = play(bag)
    assert [frame.message for frame in frames] == [packet] * 3
    assert len(told) == 1
    assert told[0].startswith(f'{bag}: /cam is sent as it is: a packet of a video (h264)')


def test_topics_of_video_packets_are_listed_with_what_to_do(tmp_path):
    bag = bag_of(tmp_path / 'bag', '/cam', 'foxglove_msgs/msg/CompressedVideo', b'\0\1\0\0')
    with pytest.raises(SourceError, match=r'topics: none; /cam \(foxglove_msgs/msg/Compressed'
                       r'Video\) holds packets of a video: .* \(in_transport foxglove'):
        open_source(bag, None, None, pytest.fail, pytest.fail)
