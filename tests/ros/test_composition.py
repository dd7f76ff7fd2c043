"""Several nodes in one process."""

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from robot import MASK_QOS
from sensor_msgs.msg import Image
from univseg_core.inference.segmenter import Segmenter
from univseg_ros.bag_recorder import BagRecorder
from univseg_ros.messages import rgb_message
from univseg_ros.segmentation_node import SegmentationNode


def parameters(**values):
    return [Parameter(name, value=value) for name, value in values.items()]


@pytest.fixture
def executor(ros_domain):
    """Return an executor, whose nodes are destroyed at the end."""
    executor = SingleThreadedExecutor()
    yield executor
    for node in executor.get_nodes():
        executor.remove_node(node)
        node.destroy_node()


def test_two_cameras_have_a_node_each_in_one_process(
        executor, own_peer, model_file, pictures):
    namespace = own_peer.node.get_namespace()
    domains = {'front': 'outdoor', 'back': 'indoor'}
    sizes = {'front': 0, 'back': 24}
    nodes = {}
    for name, domain in domains.items():
        node = nodes[name] = SegmentationNode(
            name, namespace=namespace, cli_args=['--ros-args', '-r', f'image:={name}/image'],
            parameter_overrides=parameters(model=model_file, precision='fp32',
                                           inference_size=sizes[name], active_domains=[domain]))
        assert node.get_fully_qualified_name() == f'{namespace}/{name}'
        assert node.get_parameter('active_domains').value == [domain]
        executor.add_node(node)
        executor.create_task(node.autostart_while_spinning())
    executor.add_node(own_peer.node)
    masks, publishers = {}, {}
    for name, domain in domains.items():
        masks[name] = own_peer.collect(Image, f'{namespace}/{name}/{domain}/mask', MASK_QOS)
        publishers[name] = own_peer.node.create_publisher(Image, f'{namespace}/{name}/image', 1)

    def publish_until_masks_come():
        seconds = 0
        while not all(masks.values()):
            for (name, publisher), picture in zip(publishers.items(), pictures, strict=False):
                if not masks[name] and publisher.get_subscription_count():
                    publisher.publish(rgb_message(picture, own_peer.header()))
            executor.spin_once(0.1)
            seconds += 0.1
            assert seconds < 180

    publish_until_masks_come()
    assert nodes['front']._segmenter._backend is nodes['back']._segmenter._backend
    for (name, domain), picture in zip(domains.items(), pictures, strict=False):
        segmenter = Segmenter.load(model_file, precision='fp32', inference_size=sizes[name])
        mask = masks[name][0]
        pixels = np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)
        assert (pixels == segmenter(picture, [domain])[domain].mask).all()
    # One ends, the other goes on.
    executor.remove_node(nodes['front'])
    nodes['front'].destroy_node()
    masks['back'].clear()
    publish_until_masks_come()
    executor.remove_node(own_peer.node)


def test_recorders_have_names_and_parameters_of_their_own(executor, tmp_path):
    nodes = {}
    for name in ('day', 'night'):
        nodes[name] = BagRecorder(name, namespace='/two', parameter_overrides=parameters(
            directory=str(tmp_path / name)))
        executor.add_node(nodes[name])
        nodes[name].autostart()
    assert [node.get_fully_qualified_name() for node in nodes.values()] == [
        '/two/day', '/two/night']
    assert [node._folder.path for node in nodes.values()] == [
        tmp_path / 'day', tmp_path / 'night']
    assert rclpy.ok()
