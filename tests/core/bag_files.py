"""Small ROS 2 bags with images, written by rosbags."""

import cv2
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

STORE = get_typestore(Stores.ROS2_HUMBLE)
BEGIN, STEP = 100 * 10**9, 10**8
"""When the first message was recorded, and how much later each further one, in nanoseconds."""


def pictures(count, shape=(32, 48)):
    """Make RGB pictures, each (H, W, 3) uint8, of coarse random cells: none looks like another."""
    random = np.random.default_rng(0)
    return [cv2.resize(random.integers(0, 256, (8, 9, 3), np.uint8), shape[::-1],
                       interpolation=cv2.INTER_NEAREST) for _ in range(count)]


def header(number):
    """Return a header whose stamp is 5 ns behind the time of recording."""
    time = STORE.types['builtin_interfaces/msg/Time'](*divmod(BEGIN + number * STEP + 5, 10**9))
    return STORE.types['std_msgs/msg/Header'](time, 'camera')


def raw(number, picture, encoding='rgb8'):
    """Return the bytes of an Image of a picture, whose channels are taken as they are."""
    height, width = picture.shape[:2]
    return serialised('Image', header(number), height, width, encoding, 0,
                      picture[0].nbytes, picture.view(np.uint8).ravel())


def compressed(number, data, format_='jpeg'):
    """Return the bytes of a CompressedImage."""
    return serialised('CompressedImage', header(number), format_, np.frombuffer(data, np.uint8))


def jpeg(picture):
    """Return a picture's JPEG."""
    return cv2.imencode('.jpg', picture[..., ::-1])[1].tobytes()


def serialised(type_, *fields):
    """Return a message of sensor_msgs in CDR."""
    name = f'sensor_msgs/msg/{type_}'
    return bytes(STORE.serialize_cdr(STORE.types[name](*fields), name))


def write_bag(path, topics, storage='mcap', compression=None):
    """
    Write a bag of {topic: [bytes, …]}; bytes of CompressedImage for topics that end so.

    Topics that begin with /text are of std_msgs/String. `compression` is 'file' or 'message'.
    """
    writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
    if compression:
        writer.set_compression(CompressionMode[compression.upper()], CompressionFormat.ZSTD)
    with writer:
        connections = {topic: writer.add_connection(topic, type_of(topic), typestore=STORE)
                       for topic in topics}
        for number in range(max(map(len, topics.values()))):
            for topic, messages in topics.items():
                if number < len(messages):
                    writer.write(connections[topic], BEGIN + number * STEP, messages[number])
    return path


def type_of(topic):
    """Return the type that `write_bag` gives a topic."""
    if topic.startswith('/text'):
        return 'std_msgs/msg/String'
    return f'sensor_msgs/msg/{"CompressedImage" if topic.endswith("/compressed") else "Image"}'


def storage_file(bag):
    """Return the one storage file of a bag."""
    (path,) = (path for path in bag.iterdir() if path.name != 'metadata.yaml')
    return path
