"""The player in a process of its own: folders and bags become a camera."""

import array
import signal

from builtin_interfaces.msg import Time
import cv2
import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_ros.messages import decode, rgb_message

QOS = QoSProfile(depth=20)


@pytest.fixture
def pictures():
    """Return three different RGB images, each (4, 6, 3) uint8."""
    return list(np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8))


@pytest.fixture
def folder(tmp_path, pictures):
    """Return a folder of these pictures, written in another order than that of their names."""
    for name, picture in reversed(list(zip('abc', pictures, strict=True))):
        cv2.imwrite(str(tmp_path / f'{name}.png'), picture[..., ::-1])
    (tmp_path / 'notes.txt').write_text('not an image')
    return tmp_path


@pytest.fixture
def bag(tmp_path, pictures):
    """Return a ROS 2 bag with these pictures on /front (raw), /back (compressed), and a text."""
    writer_module = pytest.importorskip('rosbags.rosbag2', reason='needs rosbags')
    from rosbags.typesys import get_typestore, Stores
    store = get_typestore(Stores.ROS2_JAZZY)
    with writer_module.Writer(tmp_path / 'bag', version=9) as writer:
        front = writer.add_connection('/front', 'sensor_msgs/msg/Image', typestore=store)
        back = writer.add_connection('/back', 'sensor_msgs/msg/CompressedImage', typestore=store)
        text = writer.add_connection('/text', 'std_msgs/msg/String', typestore=store)
        for number, picture in enumerate(pictures):
            header = Header(stamp=Time(sec=100 + number, nanosec=5), frame_id='front_camera')
            writer.write(front, number, serialize_message(rgb_message(picture, header)))
            png = cv2.imencode('.png', picture[..., ::-1])[1].tobytes()
            message = CompressedImage(header=header, format='png', data=array.array('B', png))
            writer.write(back, number, serialize_message(message))
            writer.write(text, number, store.serialize_cdr(
                store.types['std_msgs/msg/String'](data='hello'), 'std_msgs/msg/String'))
    return tmp_path / 'bag'


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


def test_a_damaged_image_is_skipped(start, peer, folder, pictures):
    (folder / 'aa.png').write_bytes((folder / 'a.png').read_bytes()[:40])
    received = peer.collect(Image, '/damaged/camera/image_raw', QOS)
    player = run_player(start, 'damaged', folder)
    assert player.end() == 0
    peer.wait_until(lambda: len(received) == 3, 'three images')
    assert_are(received, pictures)
    assert 'aa.png: not a readable image' in player.output


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
    (lambda path: path / 'nowhere', (), 'not there; expected a folder of images or a ROS 2 bag'),
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
