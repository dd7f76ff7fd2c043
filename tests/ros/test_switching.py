"""Switching domains at run time, slowly and under load."""

from functools import partial
import itertools
import json
import random
import signal

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from robot import (
    assert_shows,
    DOMAINS,
    expected_outputs,
    frame,
    frame_counts,
    LATCHED_QOS,
    OUTPUTS,
    PAUSE,
    Robot,
)
from sensor_msgs.msg import Image
from std_msgs.msg import String
from univseg_ros.messages import rgb_message

SETS = (['outdoor'], ['indoor'], ['outdoor', 'indoor'], ['indoor', 'outdoor'])
SWITCHES = 300
SWITCH_PERIOD, FRAME_PERIOD = 0.01, 0.02
"""Seconds; a slow machine takes longer."""

OUTSTANDING = 5
"""Requests at most that wait for their answers: the service's queue is no longer than 10."""

DEPTH = 200
"""Messages that publishers keep, so that none is lost on its way."""


@pytest.fixture(scope='module')
def robot(start, peer, quick_options):
    """Return a node that is active, whose outputs are not lost; at last it is interrupted."""
    depths = [f'qos_overrides./switching/univseg/{domain}/{name}.publisher.depth:={DEPTH}'
              for domain in DOMAINS for name in OUTPUTS]
    robot = Robot(start, peer, 'switching', *quick_options,
                  *itertools.chain.from_iterable(('-p', depth) for depth in depths))
    robot.wait_until_active()
    yield robot
    begin = robot.process.line_count()
    robot.end(signal.SIGINT)
    assert frame_counts(robot.process.wait_for('stopped; frames', begin))['failed'] == 0


@pytest.mark.parametrize('domain', DOMAINS)
def test_after_a_switch_masks_are_of_that_domain_alone(robot, quick_segmenter, image, peer,
                                                       domain):
    other, = set(DOMAINS) - {domain}
    assert robot.set_parameter('active_domains', [other]).successful
    robot.segment(frame(image), other)
    assert robot.set_parameter('active_domains', [domain]).successful
    sent, mask = robot.segment(frame(image), domain)
    assert len(np.unique(quick_segmenter(image)[domain].mask)) > 1
    assert_shows(mask, quick_segmenter(image)[domain].mask, sent.header)
    peer.handle_for(PAUSE)
    assert robot.mask_of(sent.header.stamp, other) is None


@pytest.mark.parametrize(('value', 'reasons'), [
    (['cellar'], ["unknown domain 'cellar'", 'outdoor, indoor']),
    (['indoor', 'cellar'], ["unknown domain 'cellar'", 'outdoor, indoor']),
    (['Indoor'], ["unknown domain 'Indoor'", 'outdoor, indoor']),
    (['indoor', 'indoor'], ['named twice']),
    ([''], ["unknown domain ''"]),
    ([], ['at least one domain; this model has outdoor, indoor']),
])
def test_a_rejected_switch_says_why_and_changes_nothing(robot, peer, image, value, reasons):
    # So that a mask of indoor would be seen.
    assert robot.set_parameter('active_domains', ['indoor']).successful
    robot.segment(frame(image), 'indoor')
    assert robot.set_parameter('active_domains', ['outdoor']).successful
    result = robot.set_parameter_of_type(
        Parameter('active_domains', Parameter.Type.STRING_ARRAY, value))
    assert not result.successful
    for reason in reasons:
        assert reason in result.reason
    assert robot.get_parameter('active_domains') == ['outdoor']
    sent, _ = robot.segment(frame(image), 'outdoor')
    peer.handle_for(PAUSE)
    assert robot.mask_of(sent.header.stamp, 'indoor') is None


class Storm:
    """
    Frames and switches as fast as they are told to come, and what the node makes of them.

    `requests` are the domains asked for, in order, of which None was asked for in vain. Of each
    frame sent, by stamp, `sent` holds which picture it shows and how many requests had been
    answered; of each that came back, `seen` which outputs, and `requested` how many requests had
    been made when the last of them came.
    """

    def __init__(self, robot, pictures):
        self._robot = robot
        self._pictures = pictures
        self._random = random.Random(0)
        self._client = robot.peer.client(
            SetParameters, f'{robot.node}/set_parameters')
        self.begin()
        for domain in DOMAINS:
            for name in OUTPUTS:
                robot.peer.node.create_subscription(
                    Image, f'{robot.node}/{domain}/{name}', partial(self._receive, domain, name),
                    QoSProfile(depth=DEPTH))

    def begin(self):
        """Forget what was, and begin with the domains that are set now."""
        self.requests = [self._robot.get_parameter('active_domains')]
        self.answered = 1
        self.sent, self.seen, self.requested, self.duplicates = {}, {}, {}, []

    def send_a_frame(self):
        """Publish the next picture."""
        header = self._robot.peer.header()
        picture = len(self.sent) % len(self._pictures)
        self.sent[header.stamp.sec] = picture, self.answered
        self._robot.publish_at_once(rgb_message(self._pictures[picture], header))
        return header.stamp.sec

    def switch(self):
        """Ask for other domains, now and then for some that there are not."""
        if len(self.requests) > SWITCHES or len(self.requests) - self.answered >= OUTSTANDING:
            return
        bad = self._random.random() < 0.1
        domains = ['indoor', 'cellar'] if bad else self._random.choice(SETS)
        self.requests.append(None if bad else domains)
        request = SetParameters.Request(
            parameters=[Parameter('active_domains', value=domains).to_parameter_msg()])
        self._client.call_async(request).add_done_callback(partial(self._answer, not bad))

    def send_until_one_has_all(self):
        """Publish frames, while both domains are set, until all outputs of one have come."""
        first = self.send_a_frame()
        for _ in range(100):
            self._robot.peer.handle_for(PAUSE)
            if any(len(outputs) == len(DOMAINS) * len(OUTPUTS)
                   for stamp, outputs in self.seen.items() if stamp >= first):
                return
            self.send_a_frame()
        pytest.fail(f'no frame has all outputs; the node says:\n{self._robot.process.output}')

    def is_over(self):
        return self.answered > SWITCHES

    def _answer(self, expected, future):
        result, = future.result().results
        assert result.successful == expected, result.reason
        self.answered += 1

    def _receive(self, domain, name, message):
        outputs = self.seen.setdefault(message.header.stamp.sec, {})
        if (domain, name) in outputs:
            self.duplicates.append(message.header)
        outputs[domain, name] = message
        self.requested[message.header.stamp.sec] = len(self.requests)

    def possible_sets(self, stamp):
        """Return the sets of domains that a frame may have been processed with."""
        in_force = [next(domains for domains in self.requests[index::-1] if domains)
                    for index in range(self.sent[stamp][1] - 1, self.requested[stamp])]
        return [set(domains) for domains in in_force]


def test_under_load_every_frame_has_one_full_set_of_outputs_of_domains_that_were_set(
        robot, peer, quick_segmenter, pictures):
    expected = [expected_outputs(quick_segmenter, picture) for picture in pictures]
    robot.unsubscribe()
    storm = Storm(robot, pictures)
    assert robot.set_parameter('active_domains', list(DOMAINS)).successful
    storm.send_until_one_has_all()
    robot.settle()
    before = robot.counts_at_rest()
    storm.begin()

    timers = [peer.node.create_timer(FRAME_PERIOD, storm.send_a_frame),
              peer.node.create_timer(SWITCH_PERIOD, storm.switch)]
    peer.wait_until(storm.is_over, 'the answers to all switches', 60)
    for timer in timers:
        peer.node.destroy_timer(timer)
    assert robot.set_parameter('active_domains', list(DOMAINS)).successful
    storm.requests.append(list(DOMAINS))
    storm.answered += 1
    # The outputs of earlier frames have come before its own.
    storm.send_until_one_has_all()

    robot.settle()
    after = robot.counts_at_rest()
    assert after['published'] - before['published'] == len(storm.seen)
    assert after['failed'] == before['failed']
    assert not storm.duplicates
    kinds = set()
    for stamp, outputs in storm.seen.items():
        domains = {domain for domain, _ in outputs}
        assert set(outputs) == set(itertools.product(domains, OUTPUTS))
        assert domains in storm.possible_sets(stamp)
        kinds.add(frozenset(domains))
        picture, _ = storm.sent[stamp]
        for output, message in outputs.items():
            assert_shows(message, expected[picture][output], message.header)
    assert len(kinds) == 3
    assert len(storm.seen) > SWITCHES / 10
    assert robot.get_parameter('active_domains') == list(DOMAINS)
    latched = peer.collect(String, f'{robot.node}/active_domains', LATCHED_QOS)
    peer.wait_until(lambda: latched, 'active_domains')
    assert json.loads(latched[-1].data) == list(DOMAINS)
