"""The images tell the domain: what is published, announced and recorded of it."""

import json
from pathlib import Path
import signal

from frame_bench import Outputs
from lifecycle_msgs.msg import Transition
from measured_node.made_up_places import view, write_knowing_model
import numpy as np
import pytest
from quick_model import write_quick_model
from rclpy.qos import QoSProfile
from robot import frame, LATCHED_QOS, PAUSE, Robot
from std_msgs.msg import String
from std_srvs.srv import Trigger
from univseg_core.domains import Domain
from univseg_core.inference.domain_decision import Decision
from univseg_core.models.domain_evidence import Recognition

FRAMES = 5
"""Over which the evidence is averaged, by default."""


@pytest.fixture(scope='module')
def knowing_file(quick_model, tmp_path_factory):
    """Return the path of a model file with evidence of two made-up places."""
    return write_knowing_model(Path(quick_model), tmp_path_factory.mktemp('places'))


@pytest.fixture(scope='module')
def knowing_options(quick_options, quick_model, knowing_file):
    """Return the options of a node with that model."""
    return [option.replace(quick_model, str(knowing_file)) for option in quick_options]


@pytest.fixture(scope='module')
def robot(start, peer, knowing_options):
    """Return a node that decides by its images."""
    robot = Robot(start, peer, 'auto', *knowing_options,
                  '-p', "active_domains:=['auto']")
    robot.wait_until_active()
    yield robot
    begin = robot.process.line_count()
    robot.end(signal.SIGINT)
    assert ', 0 failed' in robot.process.wait_for('stopped; frames', begin)


class Places:
    """What a node says of its place, and masks of both domains."""

    def __init__(self, robot, peer):
        self.robot, self.peer = robot, peer
        self.domains = peer.collect(String, f'{robot.node}/domain', QoSProfile(
            depth=50, durability=LATCHED_QOS.durability))
        self.frames = peer.collect(String, f'{robot.node}/recognition', 50)
        self.masks = {domain: robot.masks(domain) for domain in ('outdoor', 'indoor')}
        peer.wait_until(lambda: self.domains, 'domain')

    @property
    def now(self):
        return json.loads(self.domains[-1].data)

    def show(self, pictures):
        """Show pictures one after another; return the domains of which masks came for each."""
        shown = []
        for picture in pictures:
            message = frame(picture)(self.peer.header())
            stamp = message.header.stamp
            count = len(self.frames)
            self.robot.publish(message)
            self.peer.wait_until(lambda count=count: len(self.frames) > count, 'recognition')
            told = json.loads(self.frames[-1].data)
            assert told['stamp'] == stamp.sec * 10**9 + stamp.nanosec
            if told['domain']:
                self.peer.wait_until(
                    lambda told=told, stamp=stamp: self.robot.mask_of(stamp, told['domain']),
                    'its mask')
            shown.append([domain for domain in self.masks
                          if self.robot.mask_of(stamp, domain)])
            assert shown[-1] == ([told['domain']] if told['domain'] else [])
        return shown


@pytest.fixture
def places(robot, peer):
    """Return what a node says of its place, of which nothing is known yet."""
    assert robot.set_parameter('active_domains', ['outdoor']).successful
    assert robot.set_parameter('active_domains', ['auto']).successful
    places = Places(robot, peer)
    yield places
    peer.stop_collecting(places.domains)
    peer.stop_collecting(places.frames)


def views(domain, count):
    return [view(domain, 106 + i) for i in range(count)]


def test_a_drive_through_both_places_and_none(places, robot, peer):
    assert places.now['domain'] is None
    assert places.show(views('outdoor', 6)) == [[]] * (FRAMES - 1) + [['outdoor']] * 2
    first = places.now
    assert (first['domain'], first['state'], first['pinned']) == ('outdoor', 'decided', False)
    assert first['probability'] > 0.7
    assert first['since'] > 0
    shown = places.show(views('indoor', 8))
    assert shown == [['outdoor']] * 3 + [['indoor']] * 5
    latched = peer.collect(String, f'{robot.node}/active_domains', LATCHED_QOS)
    peer.wait_until(lambda: latched, 'active_domains')
    assert json.loads(latched[-1].data) == ['indoor']
    peer.stop_collecting(latched)
    noise = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(8)]
    assert places.show(noise)[-1] == []
    assert places.now['state'] == 'none'
    assert places.now['why'].startswith('unlike all that the model was trained on')
    assert places.now['unfamiliarity'] > 1
    values = robot.wait_for_diagnostics(
        lambda level, message, values: 'unlike anything' in message)[2]
    assert values['domain'] == 'none'
    assert int(values['frames undecided']) >= 4
    changes = [json.loads(each.data)['domain'] for each in places.domains]
    assert changes[-4:] == [None, 'outdoor', 'indoor', None]


def test_a_size_beyond_what_the_model_knows_is_told(places, robot):
    for size, told in ((160, True), (128, False)):
        assert robot.set_parameter('inference_size', size).successful
        message = robot.wait_for_diagnostics(
            lambda level, message, values, size=size: values['inference size'] == str(size))[1]
        assert ('32 to 128 pixels, and the inference size is 160' in message) == told
    assert robot.set_parameter('inference_size', 160).successful
    assert robot.set_parameter('active_domains', ['outdoor']).successful
    message = robot.wait_for_diagnostics(lambda level, message, values: (
        values['inference size'], values['active domains']) == ('160', 'outdoor'))[1]
    assert 'mistaken' not in message
    assert robot.set_parameter('inference_size', 0).successful


def test_pinned_until_released(places, robot, peer):
    places.show(views('outdoor', 5))
    answer = peer.call(Trigger, f'{robot.node}/indoor/pin', Trigger.Request(), robot.node)
    assert (answer.success, answer.message) == (True, 'indoor until it is released')
    assert places.show(views('outdoor', 4)) == [['indoor']] * 4
    assert (places.now['domain'], places.now['pinned']) == ('indoor', True)
    assert peer.call(Trigger, f'{robot.node}/release', Trigger.Request()).success
    assert places.show(views('outdoor', 1)) == [['outdoor']]
    assert (places.now['domain'], places.now['pinned']) == ('outdoor', False)


def test_a_pin_outlasts_a_deactivation_until_domains_are_named(places, robot, peer):
    service = f'{robot.node}/indoor/pin'
    assert peer.call(Trigger, service, Trigger.Request(), robot.node).success
    for named in (False, True):
        assert robot.change_state(Transition.TRANSITION_DEACTIVATE)
        if named:
            assert robot.set_parameter('active_domains', ['outdoor']).successful
            assert robot.set_parameter('active_domains', ['auto']).successful
        count = len(places.domains)
        assert robot.change_state(Transition.TRANSITION_ACTIVATE)
        peer.wait_until(lambda count=count: len(places.domains) > count, 'domain')
        assert (places.now['domain'], places.now['pinned']) == (
            (None, False) if named else ('indoor', True))


def test_where_domains_are_named_there_is_nothing_to_pin(robot, peer):
    assert robot.set_parameter('active_domains', ['outdoor']).successful
    answer = peer.call(Trigger, f'{robot.node}/indoor/pin', Trigger.Request(), robot.node)
    assert not answer.success
    assert 'active_domains is not auto' in answer.message
    assert robot.get_parameter('active_domains') == ['outdoor']


def test_a_place_is_known_though_nobody_wants_masks(robot, peer):
    robot.unsubscribe()
    assert robot.set_parameter('active_domains', ['auto']).successful
    domains = peer.collect(String, f'{robot.node}/domain', LATCHED_QOS)
    peer.wait_until(lambda: domains, 'domain')
    for picture in views('indoor', FRAMES + 1):
        robot.publish(frame(picture)(peer.header()))
        peer.handle_for(PAUSE)
    peer.wait_until(lambda: json.loads(domains[-1].data)['domain'] == 'indoor', 'indoor')
    peer.stop_collecting(domains)


def test_leaving_auto_and_coming_back_forgets_the_place(places, robot, peer):
    places.show(views('outdoor', 5))
    assert places.now['domain'] == 'outdoor'
    assert robot.set_parameter('active_domains', ['indoor']).successful
    peer.wait_until(lambda: places.now['state'] == 'off', 'off')
    assert places.now['domain'] is None
    assert robot.set_parameter('active_domains', ['auto']).successful
    peer.wait_until(lambda: places.now['state'] == 'undecided', 'undecided')
    assert places.now['why'] == 'no frame has come yet'
    assert places.show(views('indoor', 5)) == [[]] * 4 + [['indoor']]


def test_there_is_nothing_to_release_where_nothing_is_pinned(places, robot, peer):
    answer = peer.call(Trigger, f'{robot.node}/release', Trigger.Request(), robot.node)
    assert (answer.success, answer.message) == (False, 'nothing is pinned')


def test_a_model_without_evidence_is_refused_for_auto_and_the_node_stays(
        start, peer, quick_options, knowing_file):
    robot = Robot(start, peer, 'no_evidence', *quick_options, '-p',
                  "active_domains:=['auto']")
    robot.process.wait_for('not configured: active_domains: this model file has no evidence')
    assert '`univseg recognise` adds it' in robot.diagnostics()[1]
    assert robot.set_parameter('model', str(knowing_file)).successful
    assert robot.change_state(Transition.TRANSITION_CONFIGURE)
    assert robot.change_state(Transition.TRANSITION_ACTIVATE)
    robot.end(signal.SIGTERM)


def test_a_domain_called_auto_is_refused(start, peer, tmp_path):
    pytest.importorskip('onnx', reason='needs the package onnx')
    write_quick_model(tmp_path / 'auto.onnx', Domain.create('auto', ['road']),
                      Domain.create('indoor', ['floor']))
    robot = Robot(start, peer, 'called_auto', '-p', f'model:={tmp_path / "auto.onnx"}', '-p',
                  'backend:=onnxruntime')
    robot.process.wait_for('not configured: this model has a domain called auto')
    assert 'called auto' in robot.diagnostics()[1]  # by then, the log is published
    robot.end(signal.SIGTERM)


def test_of_several_cameras_one_may_be_told_by_its_images(start, peer, knowing_options):
    robot = Robot(start, peer, 'one_auto', *knowing_options,
                  '-p', "cameras:=['front','left']", '-p', "left.active_domains:=['auto']")
    robot.wait_until_active()
    robot.segment(frame(view('indoor', 3)), 'front/outdoor', topic='front/image')
    sent, _ = robot.segment(frame(view('indoor', 3)), 'left/indoor', topic='left/image')
    assert robot.mask_of(sent.header.stamp, 'left/outdoor') is None
    robot.end(signal.SIGTERM)


class FakePlace:
    """A place that decides as a test says, and keeps what it was to tell."""

    def __init__(self):
        self.now = Decision()
        self.told = []

    def is_watched(self):
        return False

    def see(self, recognition, rule):
        return self.now

    def publish(self, recognition, decision, header):
        self.told.append((header.stamp.sec, decision.domain))


@pytest.mark.parametrize('memory', [None, 100])
def test_a_frame_is_of_the_domain_that_is_decided_for_it(make_bench, memory):
    bench = make_bench(a=['mask'], b=['mask'])
    assert isinstance(bench.outputs['a'], Outputs)
    place = bench.stream.place = FakePlace()
    bench.segmenter.recognition = Recognition({'a': 1.0, 'b': 0.0}, 0.0)
    bench.segmenter.memory = memory
    bench.change(active_domains=['auto'])
    for domain, outcome in (('b', 'published'), (None, 'undecided'), ('c', 'unwatched')):
        place.now = Decision(domain)
        assert bench.put_and_wait(bench.camera.frame((120, 160))) == outcome
    assert bench.published == [(1, 'b', 'mask', 1)]
    assert place.told == [(1, 'b'), (2, None), (3, 'c')]
