"""Topics, messages and bags for the tests of recording."""

from bag_files import jpeg, raw, serialised
import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from univseg_core.bags.reading import Bag
from univseg_core.bags.topics import Topic
from univseg_core.recording.serialized_image import SerializedImage

FOREVER = {'sec': 9223372036, 'nsec': 854775807}
RELIABLE = {
    'history': 'unknown', 'depth': 0, 'reliability': 'reliable', 'durability': 'volatile',
    'deadline': FOREVER, 'lifespan': FOREVER, 'liveliness': 'automatic',
    'liveliness_lease_duration': FOREVER, 'avoid_ros_namespace_conventions': False}
BEST_EFFORT = {**RELIABLE, 'reliability': 'best_effort'}
IMAGE, COMPRESSED_IMAGE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
FRONT = Topic('/front', IMAGE, (RELIABLE,))
BACK = Topic('/back', COMPRESSED_IMAGE, (BEST_EFFORT, RELIABLE))
SECOND = 10**9


def picture(number, side=16):
    """Return noise (side, side, 3) uint8."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def front(number, side=16):
    """Return a raw image, published and received at two times of its own."""
    time = 100 * SECOND + number * SECOND // 10
    return SerializedImage(FRONT, time, time - 3, raw(number, picture(number, side)))


def back(number):
    """Return a compressed image that came a little after the raw one."""
    time = 100 * SECOND + number * SECOND // 10 + 7
    data = serialised('CompressedImage', *_fields(number))
    return SerializedImage(BACK, time, time - 3, data)


def _fields(number):
    from bag_files import header
    return header(number), 'jpeg', np.frombuffer(jpeg(picture(number)), np.uint8)


def write(writer, frames):
    """Write frames by a writer of bags or of their files."""
    for frame in frames:
        writer.write(frame.topic, frame.time, frame.published, frame.data)


def as_tuples(frames):
    """Return what of frames must come back out of a bag, in the order of their times."""
    return sorted((frame.topic.name, frame.time, bytes(frame.data)) for frame in frames)


def read_by_rosbags(path):
    """Return all messages of a finished bag, read by both of rosbags' readers."""
    with Reader(path) as reader:
        read = [(connection.topic, time, bytes(data))
                for connection, time, data in reader.messages()]
        assert len(read) == reader.message_count == sum(
            connection.msgcount for connection in reader.connections)
    with AnyReader([path]) as reader:
        for connection, _, data in reader.messages():
            reader.deserialize(data, connection.msgtype)
    return sorted(read)


def read_by_us(path, topics=('/front', '/back')):
    """Return all messages of a bag, finished or not, and what is said of its damage."""
    with Bag(path) as bag:
        read = [(message.topic, message.time, bytes(message.data))
                for message in bag.messages(topics)]
        return sorted(read), bag.damage
