"""Several cameras at one node: one model, each camera with topics and settings of its own."""

import json
import re
import signal

import numpy as np
import pytest
from quick_model import write_quick_model
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from robot import (
    assert_shows,
    CAMERA_QOS,
    fault,
    FAULTY_NODE,
    frame,
    LATCHED_QOS,
    PAUSE,
    Robot,
)
from std_msgs.msg import String
from univseg_core.domains import Domain
from univseg_ros.parameters import objection
from univseg_ros.segmentation_node import SegmentationNode


@pytest.fixture(scope='module')
def robot(start, peer, model_file):
    """Return a node with two cameras, of which the left one begins with the second domain."""
    robot = Robot(start, peer, 'cameras', '-p', f'model:={model_file}', '-p', 'precision:=fp32',
                  '-p', "cameras:=['front','left']", '-p', "left.active_domains:=['indoor']",
                  '-p', 'left.depth:=3')
    robot.wait_until_active()
    yield robot
    begin = robot.process.line_count()
    robot.end(signal.SIGINT)
    for name in ('front', 'left'):
        assert ', 0 failed' in robot.process.wait_for(f'{name}: stopped; frames', begin)


def test_each_camera_has_masks_of_its_own_images_and_domains(robot, peer, segmenter, pictures):
    for camera, domain, picture in (('front', 'outdoor', pictures[0]),
                                    ('left', 'indoor', pictures[1])):
        sent, mask = robot.segment(frame(picture), f'{camera}/{domain}', topic=f'{camera}/image')
        assert_shows(mask, segmenter(picture)[domain].mask, sent.header)
        assert robot.mask_of(sent.header.stamp, f'{camera}/{domain}')
    peer.handle_for(PAUSE)
    assert not robot.masks('left/outdoor')


def test_there_is_nothing_of_a_camera_without_a_name(robot, peer):
    topics = dict(peer.node.get_topic_names_and_types())
    for topic in ('image', 'univseg/outdoor/mask', 'univseg/active_domains'):
        assert f'{robot.namespace}/{topic}' not in topics
    assert f'{robot.namespace}/left/image' in topics


def test_a_camera_follows_the_general_parameter_while_it_has_none_of_its_own(robot, peer):
    said = {camera: peer.collect(String, f'{robot.node}/{camera}/active_domains', LATCHED_QOS)
            for camera in ('front', 'left')}

    def told(front, left):
        peer.wait_until(lambda: all(messages and json.loads(messages[-1].data) == domains
                                    for messages, domains in ((said['front'], front),
                                                              (said['left'], left))),
                        f'{front} and {left}')

    told(['outdoor'], ['indoor'])
    assert robot.set_parameter('active_domains', ['outdoor', 'indoor']).successful
    told(['outdoor', 'indoor'], ['indoor'])
    assert robot.set_parameter('front.active_domains', ['outdoor']).successful
    told(['outdoor'], ['indoor'])
    assert robot.set_parameter('active_domains', ['indoor']).successful
    told(['outdoor'], ['indoor'])
    for camera in ('front', 'left'):  # of which the latter was given at start
        assert robot.delete_parameter(f'{camera}.active_domains').successful
        assert robot.get_parameter(f'{camera}.active_domains') is None
    assert robot.set_parameter('active_domains', ['indoor', 'outdoor']).successful
    told(['indoor', 'outdoor'], ['indoor', 'outdoor'])
    assert robot.set_parameter('front.active_domains', ['outdoor']).successful
    assert robot.set_parameter('left.active_domains', ['indoor']).successful
    told(['outdoor'], ['indoor'])


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('left.active_domains', ['cellar'], "left.active_domains: unknown domain 'cellar'"),
    ('left.active_domains', 'indoor', "'indoor' is not a list of texts"),
    ('left.active_domains', ['auto', 'indoor'], "'auto' stands alone"),
    ('left.active_domains', ['auto'], 'univseg recognise'),
    ('active_domains', ['auto'], 'univseg recognise'),
    ('left.max_rate', 5, '5 is not a number with a decimal point'),
    ('left.max_rate', -1.0, 'Parameter left.max_rate out of range'),
    ('left.image_transport', 'compressed', 'can only be set while the node is not active'),
    ('cameras', ['front'], 'read-only'),
    ('auto_stay', 0.8, 'auto_stay 0.8 is above auto_switch 0.7'),
])
def test_what_a_camera_cannot_have_is_rejected(robot, name, value, reason):
    before = robot.get_parameter(name)
    result = robot.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason
    assert robot.get_parameter(name) == before


@pytest.mark.parametrize(('name', 'reason'), [
    ('left.depth', 'left.depth can only be set while the node is not active'),
    ('max_rate', 'cannot be undeclared'),
])
def test_what_cannot_be_deleted_stays(robot, name, reason):
    before = robot.get_parameter(name)
    assert before is not None
    result = robot.delete_parameter(name)
    assert not result.successful
    assert reason in result.reason
    assert robot.get_parameter(name) == before


def test_cameras_have_rates_and_diagnostics_of_their_own(robot, peer, pictures):
    assert robot.set_parameter('left.max_rate', 0.001).successful
    for camera, domain in (('front', 'outdoor'), ('left', 'indoor')):
        robot.outputs(f'{camera}/{domain}', 'mask')
    for _ in range(3):
        for camera in ('front', 'left'):
            robot.publish(frame(pictures[0])(peer.header()), f'{camera}/image')
    robot.settle('front/image')
    robot.settle('left/image')
    robot.subject = 'segmentation left'
    values = robot.wait_for_diagnostics(
        lambda level, message, values: int(values['frames limited']) >= 1)[2]
    assert values['image topic'] == f'{robot.namespace}/left/image'
    assert values['active domains'] == 'indoor'
    robot.subject = 'segmentation front'
    assert robot.diagnostics()[2]['frames limited'] == '0'
    robot.subject = 'segmentation'
    assert 'cameras: front, left' in robot.diagnostics()[1]
    assert robot.delete_parameter('left.max_rate').successful  # the general one, 0, is without end
    result = robot.set_parameter('left.max_rate', -1.0)
    assert not result.successful  # it is declared as it was
    assert 'out of range' in result.reason


def test_a_camera_that_floods_leaves_the_other_its_turns(robot, peer, pictures):
    front, left = (robot.outputs(f'{camera}/{domain}', 'mask')
                   for camera, domain in (('front', 'outdoor'), ('left', 'indoor')))
    before = len(left)
    large = np.repeat(np.repeat(pictures[0], 8, 0), 8, 1)
    for _ in range(5):
        for _ in range(10):
            peer.publish_at_once(frame(large)(peer.header()), f'{robot.namespace}/front/image',
                                 CAMERA_QOS)
        robot.segment(frame(pictures[1]), 'left/indoor', topic='left/image')
    assert len(left) >= before + 5
    assert front


def test_whether_frames_go_together_was_measured_and_is_told(robot):
    line = robot.process.wait_for('frames that wait are encoded ')
    robot.subject = 'segmentation'
    values = robot.diagnostics()[2]
    assert values['batch'] in line
    assert re.fullmatch(r'(2 at once|one by one) \(the encoder took [\d.]+ ms for 2 at once, '
                        r'[\d.]+ ms one by one\)', values['batch'])


def test_frames_of_cameras_that_wait_go_through_the_encoder_at_once(
        start, peer, model_file, segmenter, fault_folder, pictures):
    with fault(fault_folder, 'batch'):
        robot = Robot(start, peer, 'batches', '-p', f'model:={model_file}', '-p',
                      'precision:=fp32', '-p', "cameras:=['front','left','rear']",
                      '-p', "left.active_domains:=['indoor']",
                      run=(*FAULTY_NODE, str(fault_folder)))
        robot.wait_until_active()
    shown = {'front': 'outdoor', 'left': 'indoor', 'rear': 'outdoor'}
    for camera, domain in shown.items():
        robot.segment(frame(pictures[0]), f'{camera}/{domain}', topic=f'{camera}/image')
    for faulty in (False, True):
        begin = robot.process.line_count()
        with fault(fault_folder, 'hold'):
            robot.publish(frame(pictures[0])(peer.header()), 'front/image')
            robot.process.wait_for('segments', begin)
            sent = {}
            for number, camera in enumerate(shown):
                sent[camera] = frame(pictures[0][:, ::(1, -1)[number % 2]].copy())(peer.header())
                robot.publish(sent[camera], f'{camera}/image')
                robot.settle(f'{camera}/image')
            if faulty:
                (fault_folder / 'fail_together').touch()
        robot.process.wait_for('encodes 3 at once', begin)
        for number, (camera, domain) in enumerate(shown.items()):
            stamp = sent[camera].header.stamp
            mask = peer.wait_until(
                lambda stamp=stamp, at=f'{camera}/{domain}': robot.mask_of(stamp, at), camera)
            picture = pictures[0][:, ::(1, -1)[number % 2]].copy()
            assert_shows(mask, segmenter(picture)[domain].mask, sent[camera].header)
    robot.subject = 'segmentation'
    assert robot.diagnostics()[2]['batch'].startswith('3 at once ')
    robot.end(signal.SIGINT)
    assert ', 0 failed' in robot.process.wait_for('front: stopped; frames')


@pytest.mark.parametrize(('names', 'reason'), [
    (['front', 'front'], 'named twice'), (['Front'], "'Front' cannot be the name"),
    (['front', ''], "'' cannot be the name"), (['a/b'], "'a/b' cannot be the name"),
    (['qos_overrides'], 'not qos_overrides'), (['1st'], "'1st' cannot be"),
    (['a' * 65], '64 at most')])
def test_names_that_are_none(names, reason):
    assert reason in objection('cameras', names, None)


@pytest.fixture
def make_node(ros_domain):
    """Return a function that makes nodes with the camera front in this process."""
    nodes = []

    def make(model, *arguments, **parameters):
        nodes.append(SegmentationNode(
            'univseg', namespace='/made', cli_args=['--ros-args', *arguments],
            parameter_overrides=[Parameter(name, value=value) for name, value in {
                'model': str(model), 'cameras': ['front'], **parameters}.items()]))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def test_what_a_model_cannot_do_for_a_camera_is_told_when_it_is_configured(make_node, tmp_path):
    pytest.importorskip('onnx', reason='needs the package onnx')
    write_quick_model(tmp_path / 'small.onnx', Domain.create('outdoor', ['road']), size=(48, 64))
    node = make_node(tmp_path / 'small.onnx')
    for size, result, reason in (
            (32, TransitionCallbackReturn.FAILURE, 'front: inference size 32: this model was '
             'exported for images that are seen at 64×48 alone'),
            (64, TransitionCallbackReturn.SUCCESS, '')):
        own, = node.set_parameters([Parameter('front.inference_size', value=size)])
        assert own.successful
        assert node.trigger_configure() == result
        assert reason in node._failure


def test_a_camera_that_names_no_domain_has_the_general_ones(make_node, quick_model):
    node = make_node(quick_model, active_domains=['indoor'])
    none = Parameter('front.active_domains', Parameter.Type.STRING_ARRAY, [])
    assert node.set_parameters([none])[0].successful
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node._cameras['front'].domains_in_words() == 'indoor'


def test_a_node_that_would_see_its_own_output_is_not_activated(make_node, quick_model):
    node = make_node(quick_model, '-r', 'front/image:=univseg/front/outdoor/overlay')
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert node._failure == (
        'not activated: the node would segment what it publishes itself on '
        '/made/univseg/front/outdoor/overlay: remap front/image')


def test_a_node_with_two_types_on_one_topic_is_not_activated_and_can_be_asked_again(
        make_node, quick_model):
    node = make_node(quick_model, '-r', 'front/camera_info:=front/image')
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    for _ in range(2):
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert node._failure.startswith(
            'not activated: the camera_info of front cannot come on /made/front/image')
    assert not any(each.topic_name == '/made/front/image' for each in node.subscriptions)


def test_a_camera_info_that_is_nobodys_is_not_listened_to(make_node, quick_model):
    node = make_node(quick_model, '-r', 'front/image:=/rig/front_image', '-r',
                     'left/image:=/rig/left_image', cameras=['front', 'left', 'rear'])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    topics = {each.topic_name for each in node.subscriptions}
    assert '/rig/camera_info' not in topics
    assert {'/made/rear/camera_info', '/rig/front_image', '/rig/left_image'} <= topics


def test_two_cameras_on_one_topic_are_refused_and_the_node_stays(start, peer, quick_options):
    robot = Robot(start, peer, 'collision', *quick_options,
                  '-p', "cameras:=['front','left']", '-r', 'front/image:=camera',
                  '-r', 'left/image:=camera')
    robot.process.wait_for('not activated: cameras front and left both subscribe to '
                           '/collision/camera')
    assert 'both subscribe' in robot.diagnostics()[1]
    robot.end(signal.SIGTERM)


def test_two_outputs_on_one_topic_are_refused(start, peer, quick_options):
    robot = Robot(start, peer, 'outputs', *quick_options,
                  '-p', "cameras:=['front','left']", '-r', '~/front/outdoor/mask:=/a_mask',
                  '-r', '~/left/outdoor/mask:=/a_mask')
    robot.process.wait_for('not activated: outputs of front and left are both to be published '
                           'on /a_mask')
    assert 'on /a_mask' in robot.diagnostics()[1]
    robot.end(signal.SIGTERM)


def test_a_camera_named_in_a_parameter_but_not_in_cameras_is_told(start, peer, quick_options):
    robot = Robot(start, peer, 'unknown_camera', *quick_options,
                  '-p', 'rear.max_rate:=5.0')
    robot.wait_until_active()
    robot.process.wait_for('rear.max_rate')
    robot.end(signal.SIGTERM)
