"""A segmentation node in a process of its own, and what tests do with it."""

from collections import Counter
from contextlib import contextmanager
from pathlib import Path
import re
import time

from diagnostic_msgs.msg import DiagnosticArray
from fakes import DEADLINE
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
from rcl_interfaces.srv import (
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from univseg_core.pictures.overlay import overlay_with_legend
from univseg_ros.messages import rgb_message

CAMERA_QOS = QoSProfile(depth=5)
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
MASK_QOS = QoSProfile(depth=50)
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
DOMAINS = ('outdoor', 'indoor')
OUTPUTS = ('mask', 'confidence', 'overlay')
NODE = ('-m', 'univseg_ros.segmentation_node')
FAULTY_NODE = ('-c', Path(__file__).with_name('faulty_node.py').read_text())
"""Its argument is a folder: see there."""

RETRY = 0.5
"""Seconds after which a frame that a lossy QoS may have dropped is sent again."""

PAUSE = 0.1
"""Seconds that usually suffice for a frame to reach the node; where they do not, tests repeat."""


class Robot:
    """One segmentation node in its own namespace, and what a test does with it."""

    name = 'univseg'
    subject = 'segmentation'
    """What its status on /diagnostics is about."""

    active = 'active; domains'
    """What it says when it is active."""

    def __init__(self, start, peer, name, *options, run=NODE):
        self.peer = peer
        self.namespace = f'/{name}'
        self.node = f'/{name}/{self.name}'
        self.process = start(*run, '--ros-args', '-r', f'__ns:=/{name}', *options)
        self._outputs = {}
        self._diagnostics = None

    def state(self):
        response = self.peer.call(GetState, f'{self.node}/get_state', GetState.Request())
        return response.current_state.id

    def wait_until_active(self):
        self.process.wait_for(self.active)

    def change_state(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.peer.call(ChangeState, f'{self.node}/change_state', request).success

    def begin_change_of_state(self, transition):
        """Ask for a transition; return the future of the answer."""
        return self.peer.client(ChangeState, f'{self.node}/change_state').call_async(
            ChangeState.Request(transition=Transition(id=transition)))

    def set_parameter(self, name, value):
        return self.set_parameter_of_type(Parameter(name, value=value))

    def set_parameter_of_type(self, parameter):
        request = SetParameters.Request(parameters=[parameter.to_parameter_msg()])
        return self.peer.call(SetParameters, f'{self.node}/set_parameters', request).results[0]

    def delete_parameter(self, name):
        """Do as `ros2 param delete`."""
        return self.set_parameter_of_type(Parameter(name, Parameter.Type.NOT_SET))

    def set_parameters_together(self, **values):
        request = SetParametersAtomically.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()
                        for name, value in values.items()])
        return self.peer.call(
            SetParametersAtomically, f'{self.node}/set_parameters_atomically', request).result

    def get_parameter(self, name):
        return self.get_parameters([name])[name]

    def get_parameters(self, names):
        response = self.peer.call(GetParameters, f'{self.node}/get_parameters',
                                  GetParameters.Request(names=names))
        return dict(zip(names, map(parameter_value_to_python, response.values), strict=True))

    def all_parameters(self):
        """Return the values of all parameters that there are, by name."""
        response = self.peer.call(ListParameters, f'{self.node}/list_parameters',
                                  ListParameters.Request())
        return self.get_parameters(sorted(response.result.names))

    def thread_count(self):
        return len(list(Path(f'/proc/{self.process.pid}/task').iterdir()))

    def outputs(self, domain, name, qos=MASK_QOS):
        """Return the list of the images of an output that have come, subscribing at first."""
        if (domain, name) not in self._outputs:
            topic = f'{self.node}/{domain}/{name}'
            self._outputs[domain, name] = self.peer.collect(Image, topic, qos)
            self.peer.wait_until(lambda: self.peer.node.count_publishers(topic), topic)
        return self._outputs[domain, name]

    def unsubscribe(self):
        """End the subscriptions to all outputs."""
        for messages in self._outputs.values():
            self.peer.stop_collecting(messages)
        self._outputs.clear()

    def masks(self, domain):
        return self.outputs(domain, 'mask')

    def output_of(self, stamp, domain, name):
        return next((message for message in self.outputs(domain, name)
                     if message.header.stamp == stamp), None)

    def mask_of(self, stamp, domain):
        return self.output_of(stamp, domain, 'mask')

    def diagnostics(self):
        """
        Return a status of the node on /diagnostics: its level, message and values.

        It is one that was published after the call: one that was on its way may tell of what was.
        """
        called = time.time_ns()
        if self._diagnostics is None:
            self._diagnostics = []
            self.peer.node.create_subscription(
                DiagnosticArray, '/diagnostics', self._take_diagnostics, 10)
        found = self.peer.wait_until(
            lambda: [status for sent, status in self._diagnostics if sent > called],
            f'diagnostics of {self.node}')[-1]
        self._diagnostics.clear()
        return found.level, found.message, {item.key: item.value for item in found.values}

    def _take_diagnostics(self, message, info):
        self._diagnostics += [
            (info['source_timestamp'], status) for status in message.status
            if status.name == f'{self.node[1:]}: {self.subject}']

    def wait_for_diagnostics(self, condition):
        """Return the first status whose level, message and values fulfil a condition."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            status = self.diagnostics()
            if condition(*status):
                return status
        pytest.fail(f'the last diagnostics: {status}; the node says:\n{self.process.output}')

    def count(self, outcome):
        """Return how many frames came to something, as the next status on /diagnostics says."""
        return int(self.diagnostics()[2][f'frames {outcome}'])

    def counts_at_rest(self):
        """Return the counts of frames by outcome, once each that was received came to one."""
        def counts(values):
            return {key.removeprefix('frames '): int(value) for key, value in values.items()
                    if key.startswith('frames ')}

        def accounted_for(level, message, values):
            by_outcome = counts(values)
            return by_outcome.pop('received') == sum(by_outcome.values())

        return counts(self.wait_for_diagnostics(accounted_for)[2])

    def publish(self, message, topic='image'):
        self.peer.publish(message, f'{self.namespace}/{topic}', CAMERA_QOS)

    def publish_at_once(self, message):
        """Publish an image, whether the node subscribes or not: a timer must not wait."""
        self.peer.publish_at_once(message, f'{self.namespace}/image', CAMERA_QOS)

    def settle(self, topic='image'):
        """Return when the node has taken what was published on a topic, reliably, so far."""
        self.peer.wait_until_acknowledged(f'{self.namespace}/{topic}')
        # What lies ready is taken before, or together with, the first of these requests.
        self.state()
        self.state()

    def segment(self, make_message, domain, qos=CAMERA_QOS, topic='image', name='mask'):
        """
        Publish new frames until one comes back as a mask; return the frame and the mask.

        One is enough but for the moments in which subscriptions are being matched; where a frame
        takes long, that of an earlier one is as good.
        """
        self.outputs(domain, name)
        sent = []

        def first_back():
            masks = ((frame, self.output_of(frame.header.stamp, domain, name)) for frame in sent)
            return next((pair for pair in masks if pair[1]), None)

        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            sent.append(make_message(self.peer.header()))
            self.peer.publish(sent[-1], f'{self.namespace}/{topic}', qos)
            try:
                return self.peer.wait_until(first_back, f'a {name} of {domain}', RETRY)
            except AssertionError:
                continue
        pytest.fail(f'no {name} of {domain}; the node says:\n{self.process.output}')

    def end(self, with_signal):
        """End the node by a signal, and see that it ends well."""
        self.peer.handle_for(0.1)  # rcl complains of a log line that is on its way to /rosout then
        assert self.process.end(with_signal) == 0
        assert 'rosout' not in self.process.output
        assert 'Traceback' not in self.process.output


@contextmanager
def fault(folder, name, text=''):
    """Let a FAULTY_NODE go wrong in some way; it may have taken the file away itself."""
    new = folder / f'{name}.new'
    new.write_text(text)
    new.rename(folder / name)
    try:
        yield
    finally:
        (folder / name).unlink(missing_ok=True)


def frame(image):
    return lambda header: rgb_message(image, header)


def frame_counts(line):
    pairs = re.findall(r'(\d+) (\w+)', line.partition('frames')[2])
    return {name: int(count) for count, name in pairs}


def expected_outputs(segmenter, image, **options):
    """Return what the node should publish of a picture: arrays by domain and output."""
    found = segmenter(image, confidence=True, **options)
    return {(domain, name): array for domain, segmentation in found.items() for name, array in {
        'mask': segmentation.mask,
        'confidence': segmentation.confidence,
        'overlay': overlay_with_legend(image, segmentation.mask, segmenter.domains[domain]),
    }.items()}


def assert_shows(message, expected, header):
    """See that an output has a header, the pixels expected (H, W) or (H, W, 3), and their form."""
    assert message.header == header
    assert (message.height, message.width) == expected.shape[:2]
    assert message.encoding == ('mono8' if expected.ndim == 2 else 'rgb8')
    assert message.step == expected.nbytes // len(expected)
    assert message.is_bigendian == 0
    assert len(message.data) == expected.nbytes
    assert (np.frombuffer(message.data, np.uint8).reshape(expected.shape) == expected).all()


def stamps_of(messages):
    """Return how often each stamp, in nanoseconds, is that of a message."""
    return Counter(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                   for message in messages)


def serve_among(robot, bad, make_good, domain, topic='image'):
    """
    Publish bad frames with a good one after each; see that all are counted, and the good served.

    `bad` and `make_good` make messages of headers.
    """
    bad = list(bad)
    robot.segment(make_good, domain, topic=topic)
    for _ in range(10):
        before = robot.diagnostics()[2]
        for make_bad in bad:
            robot.publish(make_bad(robot.peer.header()), topic)
            robot.peer.handle_for(PAUSE)
            robot.segment(make_good, domain, topic=topic)
        after = robot.diagnostics()[2]
        assert after['frames failed'] == before['frames failed']
        # Another number would mean that one was replaced before the node had looked at it.
        if int(after['frames undecodable']) == int(before['frames undecodable']) + len(bad):
            return
    pytest.fail(f'not all were counted: {before} {after}')
