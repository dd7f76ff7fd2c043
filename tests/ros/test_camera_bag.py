"""A recorded camera's messages, sent to the node: each comes back as a mask with its stamp."""

import os
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage, Image

TOPIC = '/camera/image_raw/compressed'


@pytest.fixture(params=['camvid_camera_sqlite3', 'camvid_camera_mcap'])
def bag(request) -> Path:
    """Return a bag of camera frames, where UNIVSEG_DATA names a folder that has it."""
    path = Path(os.environ.get('UNIVSEG_DATA', '')) / 'bags' / request.param
    if not path.is_dir():
        pytest.skip(f'needs {request.param} in the folder bags of UNIVSEG_DATA')
    return path


def test_every_frame_of_a_camera_bag_comes_back(start, peer, quick_model, bag):
    with AnyReader([bag]) as reader:
        frames = [deserialize_message(data, CompressedImage)
                  for connection, _, data in reader.messages()
                  if connection.topic == TOPIC]
    assert len(frames) == 30
    namespace = f'/{bag.name}'
    masks = peer.collect(Image, f'{namespace}/univseg/outdoor/mask', QoSProfile(depth=50))
    node = start('-m', 'univseg_ros.segmentation_node', '--ros-args', '-r', f'__ns:={namespace}',
                 '-p', f'model:={quick_model}', '-p', 'image_transport:=compressed',
                 '-p', 'reliability:=reliable')
    node.wait_for('active; domains')

    def send(frame: CompressedImage) -> None:
        peer.publish(frame, f'{namespace}/image/compressed', QoSProfile(depth=10))

    # The node computes nothing until it has found out that somebody subscribes to its masks.
    for _ in range(40):
        send(CompressedImage(header=peer.header(), format=frames[0].format, data=frames[0].data))
        peer.handle_for(0.5)
        if masks:
            break
    begin = frames[0].header.stamp.sec
    # Each waits for the one before: a camera that does not wait may overtake a busy machine.
    for number, frame in enumerate(frames, 1):
        send(frame)
        peer.wait_until(lambda number=number: sum(
            mask.header.stamp.sec >= begin for mask in masks) == number, f'mask {number}')
    masks = [mask for mask in masks if mask.header.stamp.sec >= begin]
    assert [mask.header for mask in masks] == [frame.header for frame in frames]
    assert {(m.width, m.height, m.encoding) for m in masks} == {(480, 360, 'mono8')}
    assert np.isin(np.unique([m.data for m in masks]), [0, 1, 2]).all()
