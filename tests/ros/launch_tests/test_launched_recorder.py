"""The recorder as record.launch.py starts it: from the first image to a bag that is finished."""

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
import numpy as np
import pytest
import rclpy
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

DEADLINE = 180
FOLDER = tempfile.TemporaryDirectory()

os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 100)))
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


@pytest.mark.launch_test
def generate_test_description():
    """Include the launch file as a robot's own launch file would."""
    share = Path(get_package_share_directory('univseg_ros'))
    arguments = {'directory': FOLDER.name, 'namespace': 'robot', 'topics': '/front/image_raw',
                 'policy': 'rate', 'rate': '1000', 'when_full': 'drop_oldest'}
    return LaunchDescription([
        IncludeLaunchDescription(str(share / 'launch' / 'record.launch.py'),
                                 launch_arguments=arguments.items()),
        ReadyToTest()])


class TestLaunchedRecorder(unittest.TestCase):
    """A camera."""

    def setUp(self):
        """Start a node of the test's own."""
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('camera', context=self.context)

    def tearDown(self):
        """End it."""
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def test_a_bag_begins_with_the_first_image(self):
        """It comes to active, subscribes and records."""
        camera = self.node.create_publisher(Image, '/front/image_raw', 1)
        image = Image(encoding='rgb8', height=6, width=9, step=27,
                      data=np.arange(162, dtype=np.uint8).tobytes())
        end = time.monotonic() + DEADLINE
        while not list(Path(FOLDER.name).glob('camera_*/*.mcap')):
            self.assertLess(time.monotonic(), end, f'waited {DEADLINE} s in vain for a bag')
            camera.publish(image)
            time.sleep(0.1)


@launch_testing.post_shutdown_test()
class TestAfterShutdown(unittest.TestCase):
    """Once launch has sent SIGINT."""

    def test_the_bag_is_finished(self, proc_info, proc_output):
        """Exit code 0, no traceback, and a bag that rosbags reads."""
        assertExitCodes(proc_info)
        output = ''.join(line.text.decode() for line in proc_output)
        self.assertIn('stopped; images:', output)
        self.assertNotIn('Traceback', output)
        bag, = Path(FOLDER.name).iterdir()
        with AnyReader([bag]) as reader:
            self.assertGreater(reader.message_count, 0)
            self.assertEqual(list(reader.topics), ['/front/image_raw'])
