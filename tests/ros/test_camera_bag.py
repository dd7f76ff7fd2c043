"""A recorded camera, played into the node: every frame comes back as a mask with its stamp."""

import os
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image
from univseg_core.domains import Domain
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter

TOPIC = '/camera/image_raw/compressed'


@pytest.fixture(params=['camvid_camera_sqlite3', 'camvid_camera_mcap'])
def bag(request) -> Path:
    """Return a bag of camera frames, where UNIVSEG_DATA names a folder that has it."""
    path = Path(os.environ.get('UNIVSEG_DATA', '')) / 'bags' / request.param
    if not path.is_dir():
        pytest.skip(f'needs {request.param} in the folder bags of UNIVSEG_DATA')
    return path


def test_every_frame_of_a_camera_bag_comes_back(start, peer, tmp_path, bag):
    with AnyReader([bag]) as reader:
        frames = [reader.deserialize(data, connection.msgtype)
                  for connection, _, data in reader.messages()
                  if connection.topic == TOPIC]
    assert len(frames) == 30
    model = tmp_path / 'model.univseg'
    save_model(model, UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8),
                                         [Domain.create('outdoor', list('abc'))]), ModelCard(240))
    namespace = f'/{bag.name}'
    masks = peer.collect(Image, f'{namespace}/univseg/outdoor/mask', QoSProfile(depth=50))
    node = start('-m', 'univseg_ros.segmentation_node', '--ros-args', '-r', f'__ns:={namespace}',
                 '-p', f'model:={model}', '-p', 'image_transport:=compressed',
                 '-p', 'reliability:=reliable')
    node.wait_for('active; domains')
    topic = f'{namespace}/univseg/outdoor/mask'
    peer.wait_until(lambda: peer.node.count_publishers(topic), topic)
    player = start('-m', 'univseg_ros.image_player', str(bag), '--topic', TOPIC, '--keep-stamps',
                   '--rate', '5', '--ros-args', '-r', f'__ns:={namespace}')
    peer.wait_until(lambda: len(masks) == 30, '30 masks')
    assert player.end() == 0
    assert [(m.header.stamp.sec, m.header.stamp.nanosec, m.header.frame_id) for m in masks] == [
        (f.header.stamp.sec, f.header.stamp.nanosec, f.header.frame_id) for f in frames]
    assert {(m.width, m.height, m.encoding) for m in masks} == {(480, 360, 'mono8')}
    assert np.isin(np.unique([m.data for m in masks]), [0, 1, 2]).all()
