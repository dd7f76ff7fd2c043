"""
Decoded messages against cv_bridge's, wherever one can be imported.

That is a ROS distribution's, or `pip install cv-bridge --no-deps` in an environment of
constraints-ros.txt: that build (1.13.0.post0) is of ROS 1 and pure Python, knows fewer
conversions, and does not know of padding. Both call the same functions of OpenCV: what they give
must be equal to the last bit.
"""

import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.pictures.encodings import ENCODINGS
from univseg_core.pictures.image_messages import decode
from univseg_ros.messages import mask_message, rgb_message

try:
    from cv_bridge import CvBridge, CvBridgeError
    BRIDGE = CvBridge()
    # A cv_bridge that was built for another numpy or OpenCV fails when it is used.
    BRIDGE.imgmsg_to_cv2(Image(encoding='bgr8', height=1, width=1, step=3, data=[1, 2, 3]), 'rgb8')
except (AttributeError, ImportError, cv2.error) as error:
    pytest.skip(f'needs cv_bridge, and the numpy and OpenCV it was built for: {error}',
                allow_module_level=True)

HEIGHT, WIDTH = 34, 46
BYTE_ORDERS = {'<': 0, '>': 1}
OF_ONE_PLANE = [name for name, spec in ENCODINGS.items() if spec.chroma is None]
"""The encodings that cv_bridge may know: it knows none of two planes."""
CHANNELS = {
    'mono8': [0, 0, 0], '8UC1': [0, 0, 0], 'mono16': [0, 0, 0],
    'rgb8': [0, 1, 2], 'rgba8': [0, 1, 2], 'rgb16': [0, 1, 2], 'rgba16': [0, 1, 2],
    'bgr8': [2, 1, 0], 'bgra8': [2, 1, 0], 'bgr16': [2, 1, 0], 'bgra16': [2, 1, 0],
    '8UC3': [2, 1, 0], '8UC4': [2, 1, 0],
}
"""Which channel is red, green and blue, of the encodings with these."""


def random_message(encoding, byte_order='<', padding=0):
    """Return a message of random pixels; padding is given in pixels, as cv_bridge wants it."""
    spec = ENCODINGS[encoding]
    dtype = np.dtype(spec.dtype).newbyteorder(byte_order)
    limit = np.iinfo(spec.dtype).max
    pixels = np.random.default_rng(0).integers(
        0, limit, (HEIGHT, WIDTH + padding, spec.channels), spec.dtype, endpoint=True)
    data = array.array('B', pixels.astype(dtype).tobytes())
    return Image(encoding=encoding, height=HEIGHT, width=WIDTH, step=len(data) // HEIGHT,
                 is_bigendian=BYTE_ORDERS[byte_order], data=data)


def knows_padding():
    """Return whether this cv_bridge regards the step of a message."""
    message = Image(encoding='mono8', height=2, width=1, step=2, data=[1, 99, 2, 99])
    return BRIDGE.imgmsg_to_cv2(message).ravel().tolist() == [1, 2]


needs_padding = pytest.param(5, marks=pytest.mark.skipif(
    not knows_padding(), reason='this cv_bridge takes padding for pixels'))


@pytest.mark.parametrize('padding', [0, needs_padding])
@pytest.mark.parametrize('byte_order', BYTE_ORDERS)
@pytest.mark.parametrize('encoding', OF_ONE_PLANE)
def test_rgb(encoding, byte_order, padding):
    message = random_message(encoding, byte_order, padding)
    try:
        expected = BRIDGE.imgmsg_to_cv2(message, 'rgb8')
    except (CvBridgeError, KeyError):
        pytest.skip(f'this cv_bridge does not convert {encoding} to rgb8')
    assert np.array_equal(decode(message), expected)


@pytest.mark.parametrize('padding', [0, needs_padding])
@pytest.mark.parametrize('byte_order', BYTE_ORDERS)
@pytest.mark.parametrize('encoding', CHANNELS)
def test_numbers_and_their_order(encoding, byte_order, padding):
    message = random_message(encoding, byte_order, padding)
    numbers = BRIDGE.imgmsg_to_cv2(message, 'passthrough').reshape(HEIGHT, WIDTH, -1)
    if numbers.itemsize == 2:
        numbers = np.round(numbers / 257)
    assert np.array_equal(decode(message), numbers[..., CHANNELS[encoding]])


def test_a_bayer_pattern_that_has_another_name_in_the_build_for_ros_1():
    # It names this one 'bayer_grbg', without its 8, where colours are concerned.
    message = random_message('bayer_grbg8')
    mosaic = BRIDGE.imgmsg_to_cv2(message, 'passthrough')
    assert np.array_equal(decode(message), cv2.cvtColor(mosaic, cv2.COLOR_BayerGB2RGB))


@pytest.mark.parametrize('kind', ['jpg', 'png'])
def test_compressed(kind):
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    data = array.array('B', cv2.imencode(f'.{kind}', picture)[1].tobytes())
    message = CompressedImage(format=kind, data=data)
    assert np.array_equal(decode(message), BRIDGE.compressed_imgmsg_to_cv2(message, 'rgb8'))


@pytest.mark.filterwarnings('ignore:tostring:DeprecationWarning')
@pytest.mark.parametrize(('make', 'shape', 'encoding'), [
    (mask_message, (HEIGHT, WIDTH), 'mono8'), (rgb_message, (HEIGHT, WIDTH, 3), 'rgb8')])
def test_messages_of_ours(make, shape, encoding):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    message = make(pixels, Header())
    assert message == BRIDGE.cv2_to_imgmsg(pixels, encoding)
    assert np.array_equal(BRIDGE.imgmsg_to_cv2(message, encoding), pixels)
