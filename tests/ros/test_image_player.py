"""The player in a process of its own: folders, videos and bags become a camera."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
import recordings
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.pictures.image_messages import decode
from univseg_ros.image_player import (
    AHEAD,
    CATCH_UP,
    ImagePlayer,
    LONG_WAIT,
    parse_arguments,
    ReadAhead,
    schedule,
)
from univseg_ros.image_sources import PlayedImage, SourceError
from univseg_ros.messages import rgb_message

QOS = QoSProfile(depth=20)


@pytest.fixture
def pictures():
    """Return three different images (4, 6, 3) uint8 RGB."""
    return recordings.pictures()


@pytest.fixture
def folder(tmp_path, pictures):
    """Return a folder of these pictures, written in another order than that of their names."""
    return recordings.write_folder(tmp_path / 'folder', pictures)


@pytest.fixture
def bag(tmp_path, pictures):
    """Return a ROS 2 bag with these pictures on /front (raw) and /back (compressed)."""
    return recordings.write_bag(tmp_path / 'bag', pictures)


def run_player(start, name, *arguments):
    return start('-m', 'univseg_ros.image_player', *map(str, arguments), '--rate', '50',
                 '--ros-args', '-r', f'__ns:=/{name}', '-r', 'image:=camera/image_raw')


def assert_are(messages, pictures):
    assert [decode(message).tolist() for message in messages] == [
        picture.tolist() for picture in pictures]


@pytest.mark.parametrize('compressed', [False, True])
def test_a_folder_in_the_order_of_its_names(start, peer, folder, pictures, compressed):
    name = f'folder_{compressed}'.lower()
    type_, suffix, options = (Image, '', ()) if not compressed else (
        CompressedImage, '/compressed', ('--compressed',))
    before = peer.node.get_clock().now().to_msg().sec
    received = peer.collect(type_, f'/{name}/camera/image_raw{suffix}', QOS)
    player = run_player(start, name, folder, *options)
    peer.wait_until(lambda: len(received) == 3, 'three images')
    assert_are(received, pictures)
    assert {message.header.frame_id for message in received} == {'camera'}
    stamps = [message.header.stamp for message in received]
    assert before <= stamps[0].sec
    assert stamps[0] != stamps[1]
    assert player.end() == 0
    assert 'sent 3 images' in player.output


@pytest.mark.parametrize(('topic', 'type_', 'suffix'), [
    ('/front', Image, ''), ('/back', CompressedImage, '/compressed')])
def test_a_topic_of_a_bag_with_its_stamps(start, peer, bag, pictures, topic, type_, suffix):
    name = f'bag{topic[1:]}'
    received = peer.collect(type_, f'/{name}/camera/image_raw{suffix}', QOS)
    player = run_player(start, name, bag, '--topic', topic, '--keep-stamps')
    peer.wait_until(lambda: len(received) == 3, 'three images')
    assert_are(received, pictures)
    assert [(message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id)
            for message in received] == [(100 + n, 5, 'front_camera') for n in range(3)]
    assert player.end() == 0


def test_a_bag_again_and_again_as_another_camera_now(start, peer, bag, pictures):
    received = peer.collect(Image, '/loop/camera/image_raw', QOS)
    player = run_player(start, 'loop', bag, '--topic', '/front', '--loop', '--frame-id', 'other')
    peer.wait_until(lambda: len(received) >= 7, 'seven images of three')
    assert_are(received[:7], [*pictures, *pictures, pictures[0]])
    assert {message.header.frame_id for message in received} == {'other'}
    assert all(message.header.stamp.sec > 1000 for message in received)
    assert player.end(signal.SIGINT) == 0
    assert 'Traceback' not in player.output


def test_an_unfinished_bag_as_far_as_it_goes(start, peer, tmp_path, pictures):
    bag = recordings.record_and_be_killed(tmp_path / 'bag', pictures)
    received = peer.collect(Image, '/unfinished/camera/image_raw', QOS)
    player = run_player(start, 'unfinished', bag)
    peer.wait_until(lambda: len(received) == 3, 'three images')
    assert_are(received, pictures)
    assert player.end() == 0
    assert f'{bag / "bag_0.mcap"}: broken at byte ' in player.output
    assert 'sent 3 images' in player.output


def test_a_damaged_image_is_skipped(start, peer, folder, pictures):
    name = os.fsdecode(b'a\xdf.png')  # which ROS's log does not take
    (folder / name).write_bytes((folder / 'a.png').read_bytes()[:40])
    received = peer.collect(Image, '/damaged/camera/image_raw', QOS)
    player = run_player(start, 'damaged', folder)
    assert player.end() == 0
    peer.wait_until(lambda: len(received) == 3, 'three images')
    assert_are(received, pictures)
    assert r'a\xdf.png: not a readable image' in player.output


def test_nothing_is_sent_until_there_are_enough_subscribers(start, peer, folder):
    topic = '/waiting/camera/image_raw'
    first = peer.collect(Image, topic, QOS)
    player = run_player(start, 'waiting', folder, '--wait-for-subscribers', '2')
    peer.wait_until(lambda: peer.node.count_publishers(topic), topic)
    peer.handle_for(0.5)
    assert not first
    second = peer.collect(Image, topic, QOS)
    peer.wait_until(lambda: len(first) == len(second) == 3, 'three images for both')
    assert player.end() == 0


def test_it_starts_at_once_if_told_to(start, folder):
    player = run_player(start, 'unwatched', folder, '--wait-for-subscribers', '0')
    assert player.end() == 0
    assert 'sent 3 images' in player.output


@pytest.mark.parametrize(('make', 'options', 'reason'), [
    (lambda path: path / 'nowhere', (), 'nowhere: not there; expected a folder of images, a'),
    (lambda path: path, (), 'no images in it; expected .png'),
])
def test_a_source_that_cannot_be_played(start, tmp_path, make, options, reason):
    player = run_player(start, 'bad', make(tmp_path), *options)
    assert player.end() == 1
    assert reason in player.output
    assert 'Traceback' not in player.output


@pytest.mark.parametrize('metadata', [
    b'{', b'', b'[]', b'\xff\xfe', b'rosbag2_bagfile_information: {version: many}'])
def test_a_bag_with_damaged_metadata(start, tmp_path, metadata):
    pytest.importorskip('rosbags.rosbag2', reason='needs rosbags')
    (tmp_path / 'metadata.yaml').write_bytes(metadata)
    player = run_player(start, 'bad', tmp_path)
    assert player.end() == 1
    assert f'{tmp_path}: not a readable ROS 2 bag' in player.output
    assert 'Traceback' not in player.output


@pytest.mark.parametrize(('options', 'reason'), [
    ((), 'name one with --topic. Its image topics: /back, /front'),
    (('--topic', '/text'), 'no images on /text. Its image topics: /back, /front')])
def test_a_bag_topic_that_cannot_be_played(start, bag, options, reason):
    player = run_player(start, 'bad', bag, *options)
    assert player.end() == 1
    assert reason in player.output


@pytest.mark.parametrize(('topic', 'option', 'type_', 'suffix'), [
    ('/front', '--compressed', CompressedImage, '/compressed'), ('/back', '--raw', Image, '')])
def test_a_topic_of_a_bag_in_the_other_form(start, peer, bag, topic, option, type_, suffix):
    name = f'other{topic[1:]}'
    received = peer.collect(type_, f'/{name}/camera/image_raw{suffix}', QOS)
    player = run_player(start, name, bag, '--topic', topic, option)
    peer.wait_until(lambda: len(received) == 3, 'three images')
    assert [decode(message).shape for message in received] == [(4, 6, 3)] * 3
    assert player.end() == 0


@pytest.mark.parametrize('compressed', [False, True])
def test_a_video(start, peer, tmp_path, compressed):
    greys = [10, 100, 200]
    video = recordings.write_video(tmp_path / 'a.avi', greys)
    name = f'video_{compressed}'.lower()
    type_, suffix, options = (CompressedImage, '/compressed', ('--compressed',)) if compressed \
        else (Image, '', ())
    received = peer.collect(type_, f'/{name}/camera/image_raw{suffix}', QOS)
    player = run_player(start, name, video, *options)
    peer.wait_until(lambda: len(received) == 3, 'three images')
    for message, grey in zip(received, greys, strict=True):
        np.testing.assert_allclose(decode(message), np.full((48, 64, 3), grey), atol=4)
    assert player.end() == 0


def test_a_publisher_with_the_qos_of_a_camera_driver(start, peer, folder):
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    topic = '/best_effort/camera/image_raw'
    reliable = peer.collect(Image, topic, QOS)
    received = peer.collect(Image, topic, qos)
    player = run_player(start, 'best_effort', folder, '--reliability', 'best_effort', '--depth',
                        '2', '--loop')
    peer.wait_until(lambda: received, 'an image')
    info, = peer.node.get_publishers_info_by_topic(topic)
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert not reliable
    assert player.end(signal.SIGINT) == 0


@pytest.mark.parametrize('loop', [(), ('--loop',)])
def test_a_folder_of_damaged_images_is_an_error_at_once(start, folder, loop):
    for path in folder.glob('*.png'):
        path.write_bytes(path.read_bytes()[:40])
    player = run_player(start, 'all_damaged', folder, *loop)  # and nobody subscribes
    assert player.end() == 1
    assert f'{folder}: there is no image in it that can be played' in player.output
    assert 'Traceback' not in player.output


def test_who_subscribes_elsewhere_is_named(start, peer, folder):
    peer.collect(Image, '/elsewhere/my/image', QOS)
    player = run_player(start, 'elsewhere', folder)
    line = player.wait_for('nobody subscribes to /elsewhere/camera/image_raw')
    assert '/elsewhere/my/image' in line
    assert 'remap with, for example, --ros-args -r image:=/' in line
    assert player.end(signal.SIGTERM) == 0


def test_stamps_are_for_bags_alone(start, folder):
    player = run_player(start, 'stamps', folder, '--keep-stamps')
    assert player.end() == 1
    assert 'not a bag, and so without stamps to keep' in player.output


@pytest.mark.parametrize(('options', 'reason'), [
    (('--rate', '0'), "--rate: expected a number above 0, got '0'"),
    (('--rate', 'nan'), "--rate: expected a number above 0, got 'nan'"),
    (('--rate', '-1'), "--rate: expected a number above 0, got '-1'"),
    (('--rate', 'inf'), "--rate: expected a number above 0, got 'inf'"),
    (('--rate', 'fast'), "--rate: expected a number above 0, got 'fast'"),
    (('--depth', '0'), "--depth: '0': expected a whole number, 1 or more"),
    (('--wait-for-subscribers', '-1'), "'-1': expected a whole number, 0 or more"),
    (('--wait-for-subscribers', '1.5'), "'1.5': expected a whole number, 0 or more"),
    (('--reliability', 'auto'), "invalid choice: 'auto'"),
    (('--raw', '--compressed'), 'not allowed with argument --raw'),
])
def test_options_that_make_no_sense(capsys, options, reason):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(['photos', *options])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def frames_at(*seconds):
    return [PlayedImage(second, Image()) for second in seconds]


def due_times(source, rate, loop, count):
    return [frame.seconds for frame in itertools.islice(schedule(source, rate, loop), count)]


@pytest.mark.parametrize(('seconds', 'rate', 'loop', 'expected'), [
    ((0, 0.1, 0.3), None, False, [0, 0.1, 0.3]),
    ((0, 0.1, 0.3), 4, False, [0, 0.25, 0.5]),
    ((0, 0.1, 0.3), None, True, [0, 0.1, 0.3, 0.45, 0.55, 0.75, 0.9]),
    ((0, 0.1, 0.3), 4, True, [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]),
    ((0,), None, True, [0, 0.1, 0.2]),
    ((0, 0), None, True, [0, 0, 0.2, 0.2, 0.4]),
    ((), None, True, []),
    ((), 4, False, []),
])
def test_when_frames_are_due(seconds, rate, loop, expected):
    count = len(expected) if loop and expected else None
    assert due_times(frames_at(*seconds), rate, loop, count) == pytest.approx(expected)


def test_the_schedule_has_no_drift():
    assert due_times(frames_at(0), 30, True, 100_000)[-1] == 99_999 / 30


def test_frames_are_read_ahead_but_not_far():
    taken, closed = [], threading.Event()

    def source():
        try:
            for number in range(20):
                taken.append(number)
                yield PlayedImage(number, Image())
        finally:
            closed.set()

    frames = ReadAhead(source())
    assert frames.wait(5)
    assert [frames.take().seconds for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 3 + AHEAD + 1
    frames.close()
    assert closed.is_set()
    assert len(taken) <= 3 + AHEAD + 1


def test_the_end_and_errors_come_after_the_frames_before_them():
    def source():
        yield PlayedImage(0, Image())
        raise SourceError('the disk is gone')

    frames = ReadAhead(source())
    assert frames.take().seconds == 0
    with pytest.raises(SourceError, match='the disk is gone'):
        frames.take()
    frames.close()
    frames = ReadAhead(iter_frames(1))
    assert frames.take() is not None
    assert frames.take() is None
    frames.close()


def iter_frames(count):
    yield from frames_at(*range(count))


class LateFrames:
    """Frames of which some come after a while only, as of a slow disk."""

    def __init__(self, frames, delays):
        self._frames = iter(zip(frames, delays, strict=True))

    def wait(self, seconds):
        """Say that the next frame is there."""
        return True

    def take(self):
        """Return the next frame after its delay, None at the end."""
        frame, delay = next(self._frames, (None, 0))
        time.sleep(delay)
        return frame


def test_after_a_long_wait_the_schedule_moves(ros_domain, capfd):
    """Otherwise all that is late would come at once."""
    interval = 0.4
    images = recordings.pictures(4)
    frames = [PlayedImage(n * interval, rgb_message(image, Header()))
              for n, image in enumerate(images)]
    player = ImagePlayer(Image, QOS, frame_id='', keep_stamps=False)
    sent = []
    player._publisher = PublisherStandIn(sent)
    assert player.play(LateFrames(frames, [0, CATCH_UP + 3 * interval, 0, 0]), 0) == 4
    player.destroy_node()
    # On a busy machine, any may come later than it should, and the next sooner behind it.
    assert sent[3] - sent[1] > interval
    assert 'later than it should have' in capfd.readouterr().err


def test_a_wait_of_years_is_told(ros_domain, capfd, monkeypatch):
    """As of a damaged time of recording; ROS has no timer so long."""
    player = ImagePlayer(Image, QOS, frame_id='', keep_stamps=False)
    player._publisher = PublisherStandIn([])

    def spin_once(timeout_sec):
        assert timeout_sec <= LONG_WAIT
        if timeout_sec:
            raise KeyboardInterrupt

    monkeypatch.setattr(player._executor, 'spin_once', spin_once)
    message = rgb_message(recordings.pictures(1)[0], Header())
    frames = LateFrames([PlayedImage(seconds, message) for seconds in (0, 1e10)], [0, 0])
    with pytest.raises(KeyboardInterrupt):
        player.play(frames, 0)
    player.destroy_node()
    assert 'the next image was recorded 10000000000 s later' in capfd.readouterr().err


class PublisherStandIn:
    """Notes when something is published."""

    def __init__(self, moments):
        self._moments = moments

    def publish(self, message):
        """Note the moment."""
        self._moments.append(time.monotonic())

    def wait_for_all_acked(self, timeout):
        """Nothing is under way."""
        return True


def test_player_and_viewer_start_without_torch():
    code = ('import sys, univseg_ros.image_player, univseg_ros.mask_viewer\n'
            'sys.exit("torch" in sys.modules)')
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
