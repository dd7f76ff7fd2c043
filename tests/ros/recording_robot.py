"""A recorder in a process of its own, and what tests do with it and its bags."""

import json

from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import State, Transition
import numpy as np
import pytest
from robot import CAMERA_QOS, LATCHED_QOS, PAUSE, Robot
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from univseg_core.bags.reading import Bag, deserialise
from univseg_ros.messages import rgb_message
from univseg_ros.recorder_parameters import ANY, PARAMETERS

STATUS_PERIOD = 0.1
RECORDER = ('-c', f"""
import sys
from univseg_ros import bag_recorder
bag_recorder.STATUS_PERIOD = {STATUS_PERIOD}
sys.exit(bag_recorder.main())""")
"""The recorder, in a hurry to tell its status."""

DEFAULTS = {name: spec.default for name, spec in PARAMETERS.items() if spec.changes != 'start'}
WAYS_BACK = {
    State.PRIMARY_STATE_ACTIVE: (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP),
    State.PRIMARY_STATE_INACTIVE: (Transition.TRANSITION_CLEANUP,)}
"""The transitions to unconfigured."""


class RecordingRobot(Robot):
    """One recorder, its folder, and the namespace of the topics that it is to record."""

    name = 'bag_recorder'
    subject = 'recording'
    active = 'active; policy'

    def __init__(self, start, peer, name, folder, *options):
        super().__init__(start, peer, name, '-p', f'directory:={folder}', '-p', 'min_free:=0',
                         *options, run=RECORDER)
        self.folder = folder
        self._first_line = 0
        self._told = peer.collect(String, f'{self.node}/status', LATCHED_QOS)

    def record(self, namespace, folder, topics=(), **parameters):
        """Begin anew: record topics of a namespace, with defaults but for some parameters."""
        self.namespace, self.folder = namespace, folder
        self._first_line = self.process.line_count()
        self._told.clear()
        result = self.set_parameters_together(**{
            **DEFAULTS, 'min_free': 0, 'use_sim_time': False, 'directory': str(folder),
            'topics': [f'{namespace}/{topic}' for topic in topics] or ANY, **parameters})
        assert result.successful, result.reason
        assert self.change_state(Transition.TRANSITION_CONFIGURE)
        assert self.change_state(Transition.TRANSITION_ACTIVATE)

    def finish(self):
        """Finish the bag and release the folder."""
        for transition in WAYS_BACK.get(self.state(), ()):
            assert self.change_state(transition)

    def said(self):
        """Return what the node has said since it began anew."""
        return ''.join(self.process.output.splitlines(keepends=True)[self._first_line:])

    def wait_for(self, text):
        """Return the first line with a text that the node has said since it began anew."""
        return self.process.wait_for(text, self._first_line)

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

        What is sent while subscriptions are being matched may be lost, even reliably. It is sent
        again only when the node has certainly not got it, however busy the machine is.
        """
        for _ in range(20):
            self.peer.publish(message, f'{self.namespace}/{topic}', qos, PAUSE)
            if self._sees(topic):
                return
            self.settle(topic)  # which takes seconds
            if self._sees(topic):
                return
        pytest.fail(f'no image of {topic}; the node says:\n{self.process.output}')

    def _sees(self, topic):
        # The first status may be one from before, and the next too early for the disk.
        for _ in range(10):
            self.status()
            if self.counts(topic):
                return True
        return False

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
