"""A recorder in a process of its own, and what tests do with it and its bags."""

import json

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from robot import CAMERA_QOS, LATCHED_QOS, Robot
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from univseg_core.data.bags import Bag, deserialise
from univseg_ros.messages import rgb_message

RECORDER = ('-m', 'univseg_ros.bag_recorder')


class RecordingRobot(Robot):
    """One recorder in its own namespace, and its folder."""

    name = 'bag_recorder'
    subject = 'recording'
    active = 'active; policy'

    def __init__(self, start, peer, name, folder, *options):
        super().__init__(start, peer, name, '-p', f'directory:={folder}', '-p', 'min_free:=0',
                         *options, run=RECORDER)
        self.folder = folder
        self._told = peer.collect(String, f'{self.node}/status', LATCHED_QOS)

    def bags(self):
        """Return the folders of the bags, the oldest first."""
        return sorted(self.folder.iterdir(), key=lambda path: path.stat().st_ctime_ns)

    def status(self):
        """Return what ~/status tells next."""
        self._told.clear()
        return self.told()

    def told(self):
        """Return what ~/status has told last."""
        self.peer.wait_until(lambda: self._told, f'{self.node}/status')
        return json.loads(self._told[-1].data)

    def begin(self, topic, message, qos=CAMERA_QOS):
        """
        Publish the first image of a topic until it is seen.

        What is sent while subscriptions are being matched may be lost, even reliably.
        """
        for _ in range(20):
            self.peer.publish(message, f'{self.namespace}/{topic}', qos)
            try:
                self.peer.wait_until(lambda: self.counts(topic), f'an image of {topic}', 2.0)
                return
            except AssertionError:
                continue
        pytest.fail(f'no image of {topic}; the node says:\n{self.process.output}')

    def counts(self, topic):
        """Return how many images of a topic came to what, as ~/status has told last."""
        return self.told().get('topics', {}).get(f'{self.namespace}/{topic}', {})

    def wait_for_counts(self, topic, **expected):
        """Wait until ~/status tells these counts of a topic; return the status."""
        def is_told():
            found = self.counts(topic)
            return all(found.get(key, 0) == value for key, value in expected.items())
        try:
            self.peer.wait_until(is_told, f'{expected} of {topic}')
        except AssertionError:
            pytest.fail(f'the last status: {self.told()}; the node says:\n{self.process.output}')
        return self.told()

    def ask(self, service):
        """Call one of the services; return whether it was done, and the answer."""
        response = self.peer.call(Trigger, f'{self.node}/{service}', Trigger.Request())
        return response.success, response.message


def picture(number, shape=(24, 32)):
    """Return noise (H, W, 3) uint8."""
    return np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8)


def image_of(number, shape=(24, 32), frame_id='camera'):
    """Return an image message with a stamp of its number in seconds."""
    header = Header(stamp=Time(sec=number, nanosec=7), frame_id=frame_id)
    return rgb_message(picture(number, shape), header)


def stamps(bag):
    """Return the stamps of a bag's images in seconds by topic, read by us, none damaged."""
    found = {}
    with Bag(bag) as opened:
        for message in opened.messages(opened.topics()):
            found.setdefault(message.topic, []).append(deserialise(message).header.stamp.sec)
        assert opened.damage == []
    with AnyReader([bag]) as reader:
        assert reader.message_count == sum(map(len, found.values()))
    return found


def offered(bag):
    """Return the reliability and durability that the publishers of each topic offered."""
    with Reader(bag) as reader:
        return {connection.topic: [(profile.reliability.name, profile.durability.name)
                                   for profile in connection.ext.offered_qos_profiles]
                for connection in reader.connections}
