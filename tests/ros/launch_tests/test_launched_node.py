"""The node as each launch file starts it: from the first frame to the last signal."""

import json
import os
from pathlib import Path
import random
import tempfile
import time
import unittest

from ament_index_python import get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
import launch_testing
from launch_testing.actions import ReadyToTest
from launch_testing.asserts import assertExitCodes
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String
import torch
from univseg_core.domains import Domain
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter

DEADLINE = 180
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FOLDER = tempfile.TemporaryDirectory()
LAUNCHED = {
    'segmentation': {'domains': 'indoor,outdoor', 'dds_profile': 'large_images'},
    'outdoor': {'use_sim_time': 'false', 'device': 'cpu', 'precision': 'fp32'},
    'indoor': {'log_level': 'debug', 'autostart': 'launch'},
}
"""The launch files, and arguments with which they are started."""

os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 100)))
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


def tiny_model() -> str:
    """Return the path of a random model with the domains outdoor and indoor."""
    path = Path(FOLDER.name) / 'tiny.univseg'
    if not path.exists():
        domains = [Domain.create('outdoor', ['road', 'sky', 'tree']),
                   Domain.create('indoor', ['floor', 'wall'])]
        torch.manual_seed(0)
        model = UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8), domains)
        save_model(path, model, ModelCard())
    return str(path)


@pytest.mark.launch_test
@launch_testing.parametrize('file', LAUNCHED)
def generate_test_description(file):
    """Include a launch file as a robot's own launch file would."""
    share = Path(get_package_share_directory('univseg_ros'))
    arguments = {'model': tiny_model(), 'namespace': f'robot_{file}', 'image': '/front/image_raw',
                 **LAUNCHED[file]}
    return LaunchDescription([
        IncludeLaunchDescription(str(share / 'launch' / f'{file}.launch.py'),
                                 launch_arguments=arguments.items()),
        ReadyToTest()])


class TestLaunchedNode(unittest.TestCase):
    """A camera, a consumer with Nav2's QoS and an operator."""

    def setUp(self):
        """Start a node of the test's own."""
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('observer', context=self.context)
        self.executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def tearDown(self):
        """End it."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def wait_until(self, condition, what):
        """Handle what comes until a condition holds."""
        end = time.monotonic() + DEADLINE
        while not condition():
            self.assertLess(time.monotonic(), end, f'waited {DEADLINE} s in vain: {what}')
            self.executor.spin_once(timeout_sec=0.05)

    def call(self, type_, service, request):
        """Return the response of a service."""
        client = self.node.create_client(type_, service)
        self.wait_until(client.service_is_ready, service)
        future = client.call_async(request)
        self.wait_until(future.done, f'the response of {service}')
        return future.result()

    def collect(self, type_, topic, qos):
        """Return the list into which a topic's messages come."""
        messages = []
        self.node.create_subscription(type_, topic, messages.append, qos)
        return messages

    def test_frames_become_masks_of_the_domains_that_are_asked_for(self, file):
        """It comes to active, segments, switches and goes on segmenting."""
        univseg = f'/robot_{file}/univseg'
        active = self.collect(String, f'{univseg}/active_domains', LATCHED)
        self.wait_until(lambda: active, 'the active domains')
        expected = LAUNCHED[file].get('domains', file).split(',')
        self.assertEqual(json.loads(active[-1].data), expected)
        state = self.call(GetState, f'{univseg}/get_state', GetState.Request())
        self.assertEqual(state.current_state.id, State.PRIMARY_STATE_ACTIVE)

        masks = {name: self.collect(Image, f'{univseg}/{name}/mask', qos_profile_sensor_data)
                 for name in ('outdoor', 'indoor')}
        camera = self.node.create_publisher(Image, '/front/image_raw', 1)
        image = Image(encoding='rgb8', height=6, width=9, step=27,
                      data=np.arange(162, dtype=np.uint8).tobytes())
        image.header.frame_id = 'front_optical_frame'

        def mask_of(name):
            # A best-effort reader may miss one: the camera streams.
            camera.publish(image)
            return masks[name]

        for name in expected:
            self.wait_until(lambda name=name: mask_of(name), f'a mask of {name}')
            mask = masks[name][0]
            self.assertEqual((mask.encoding, mask.height, mask.width, mask.header),
                             ('mono8', 6, 9, image.header))

        other = next(name for name in ('indoor', 'outdoor') if name != expected[0])
        parameter = Parameter('active_domains', value=[other]).to_parameter_msg()
        response = self.call(SetParameters, f'{univseg}/set_parameters',
                             SetParameters.Request(parameters=[parameter]))
        self.assertTrue(response.results[0].successful, response.results[0].reason)
        masks[other].clear()
        self.wait_until(lambda: mask_of(other), f'a mask of {other}')


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):
    """Once launch has sent SIGINT."""

    def test_the_node_ended_cleanly(self, proc_info, proc_output):
        """Exit code 0, no traceback."""
        assertExitCodes(proc_info)
        output = ''.join(line.text.decode() for line in proc_output)
        self.assertIn('stopped; frames:', output)
        self.assertNotIn('Traceback', output)
