"""Folders, videos and bags of a few small pictures, as sources for the player."""

import array
from multiprocessing import get_context
import os
import signal

from builtin_interfaces.msg import Time
import cv2
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from univseg_core.bags.bag_writer import BagWriter
from univseg_core.bags.topics import Topic
from univseg_ros.messages import rgb_message


def pictures(count=3, shape=(4, 6)):
    """Return different RGB pictures, (count, H, W, 3) uint8."""
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape, 3), np.uint8))


def write_folder(folder, images):
    """Write PNG files a.png, b.png, …, the last one first, and a file that is no image."""
    folder.mkdir(exist_ok=True)
    for name, image in reversed(list(zip('abcdefg', images, strict=False))):
        cv2.imwrite(str(folder / f'{name}.png'), image[..., ::-1])
    (folder / 'notes.txt').write_text('not an image')
    return folder


def write_video(path, greys, rate=12.5):
    """Write a video of plain pictures of some greys, (48, 64) pixels each."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), rate, (64, 48))
    if not writer.isOpened():
        pytest.skip('this OpenCV writes no videos')
    for grey in greys:
        writer.write(np.full((48, 64, 3), grey, np.uint8))
    writer.release()
    return path


def record_and_be_killed(path, images):
    """Write a bag of pictures on /front as our recorder does, in a process that is killed."""
    pytest.importorskip('rosbags.rosbag2', reason='needs rosbags')
    process = get_context('spawn').Process(target=_record_and_be_killed, args=(path, images))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return path


def _record_and_be_killed(path, images):
    bag, topic = BagWriter(path), Topic('/front', 'sensor_msgs/msg/Image')
    for number, image in enumerate(images):
        data = serialize_message(rgb_message(image, Header()))
        bag.write(topic, number * 10**8, 0, data)
    bag.flush()
    bag.write(topic, 10**10, 0, data)  # which is lost
    os.kill(os.getpid(), signal.SIGKILL)


def write_bag(path, images, storage='sqlite3', interval=10**9):
    """
    Write a ROS 2 bag with pictures on /front (raw) and /back (PNG), and a text on /text.

    They were recorded `interval` nanoseconds apart; stamps are 100.000000005 s, 101.000000005 s …
    """
    module = pytest.importorskip('rosbags.rosbag2', reason='needs rosbags')
    plugin = module.StoragePlugin[storage.upper()]
    with module.Writer(path, version=9, storage_plugin=plugin) as writer:
        add_images(writer, images, interval)
    return path


def add_images(writer, images, interval):
    """Add what `write_bag` says to an open bag."""
    from rosbags.typesys import get_typestore, Stores
    store = get_typestore(Stores.ROS2_JAZZY)
    front = writer.add_connection('/front', 'sensor_msgs/msg/Image', typestore=store)
    back = writer.add_connection('/back', 'sensor_msgs/msg/CompressedImage', typestore=store)
    text = writer.add_connection('/text', 'std_msgs/msg/String', typestore=store)
    for number, image in enumerate(images):
        moment = 10**10 + number * interval
        header = Header(stamp=Time(sec=100 + number, nanosec=5), frame_id='front_camera')
        writer.write(front, moment, serialize_message(rgb_message(image, header)))
        png = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
        message = CompressedImage(header=header, format='png', data=array.array('B', png))
        writer.write(back, moment, serialize_message(message))
        writer.write(text, moment, store.serialize_cdr(
            store.types['std_msgs/msg/String'](data='hello'), 'std_msgs/msg/String'))
