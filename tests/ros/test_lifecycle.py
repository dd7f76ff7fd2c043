"""The node's states: what each transition does, what goes wrong in it, and how the node ends."""

import os
from pathlib import Path
import signal

from lifecycle_msgs.msg import State, Transition
import pytest
from rclpy.qos import ReliabilityPolicy
from robot import (
    assert_shows,
    DOMAINS,
    fault,
    FAULTY_NODE,
    frame,
    frame_counts,
    PAUSE,
    Robot,
    stamps_of,
)
from univseg_core.domains import Domain
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_ros.messages import rgb_message

CONFIGURE = Transition.TRANSITION_CONFIGURE
ACTIVATE = Transition.TRANSITION_ACTIVATE
DEACTIVATE = Transition.TRANSITION_DEACTIVATE
CLEANUP = Transition.TRANSITION_CLEANUP
SHUTDOWN_INACTIVE = Transition.TRANSITION_INACTIVE_SHUTDOWN
SHUTDOWN_ACTIVE = Transition.TRANSITION_ACTIVE_SHUTDOWN
UNCONFIGURED = State.PRIMARY_STATE_UNCONFIGURED
INACTIVE = State.PRIMARY_STATE_INACTIVE
ACTIVE = State.PRIMARY_STATE_ACTIVE

WAYS = {
    (UNCONFIGURED, INACTIVE): [CONFIGURE], (UNCONFIGURED, ACTIVE): [CONFIGURE, ACTIVATE],
    (INACTIVE, UNCONFIGURED): [CLEANUP], (INACTIVE, ACTIVE): [ACTIVATE],
    (ACTIVE, INACTIVE): [DEACTIVATE], (ACTIVE, UNCONFIGURED): [DEACTIVATE, CLEANUP],
}
"""The transitions from one state to another."""


@pytest.fixture(scope='module')
def managed(start, peer, model_file, fault_folder):
    """Return a node that a test can bring to any state; at last it is interrupted."""
    robot = Robot(start, peer, 'managed', '-p', f'model:={model_file}', '-p', 'precision:=fp32',
                  '-p', 'autostart:=false', run=(*FAULTY_NODE, str(fault_folder)))
    yield robot
    assert robot.process.end(signal.SIGINT) == 0


def bring_to(robot, state):
    for transition in WAYS.get((robot.state(), state), ()):
        assert robot.change_state(transition)
    assert robot.state() == state


def test_without_autostart_the_node_waits_to_be_configured(managed):
    assert managed.state() == UNCONFIGURED
    level, message, _ = managed.diagnostics()
    assert (level, message) == (b'\x01', 'not active: the node is unconfigured')
    bring_to(managed, INACTIVE)
    level, message, values = managed.diagnostics()
    assert (level, message) == (b'\x01', 'not active: the node is inactive')
    assert values['domains'] == 'outdoor, indoor'


@pytest.mark.parametrize(('state', 'transitions'), [
    (UNCONFIGURED, [ACTIVATE, DEACTIVATE, CLEANUP, SHUTDOWN_ACTIVE]),
    (INACTIVE, [CONFIGURE, DEACTIVATE, Transition.TRANSITION_DESTROY]),
    (ACTIVE, [CONFIGURE, ACTIVATE, CLEANUP, SHUTDOWN_INACTIVE, 77])])
def test_a_transition_that_the_state_does_not_have_is_refused(managed, state, transitions):
    bring_to(managed, state)
    for transition in transitions:
        assert not managed.change_state(transition)
        assert managed.state() == state


@pytest.mark.parametrize(('transition', 'state', 'name'), [
    (CONFIGURE, UNCONFIGURED, 'on_configure'), (ACTIVATE, INACTIVE, 'on_activate'),
    (DEACTIVATE, ACTIVE, 'on_deactivate'), (CLEANUP, INACTIVE, 'on_cleanup'),
    (SHUTDOWN_ACTIVE, ACTIVE, 'on_shutdown')])
def test_a_transition_that_raises_leads_back_to_unconfigured_and_says_why(
        managed, fault_folder, pictures, transition, state, name):
    bring_to(managed, state)
    begin = managed.process.line_count()
    with fault(fault_folder, name):
        assert not managed.change_state(transition)
    assert managed.state() == UNCONFIGURED
    managed.process.wait_for('the model is gone', begin)
    reason = f'{name} failed: RuntimeError: {name} was told to fail'
    assert managed.process.wait_for(reason)
    level, message, _ = managed.diagnostics()
    assert level == b'\x02'
    assert message == f'{reason}; not active: the node is unconfigured'
    bring_to(managed, ACTIVE)
    managed.segment(frame(pictures[0]), 'outdoor')


def subscriptions(robot):
    return robot.peer.node.get_subscriptions_info_by_topic(f'{robot.namespace}/image')


def test_twenty_times_off_and_on_under_load_leave_nothing_behind(managed, peer, pictures):
    bring_to(managed, ACTIVE)
    managed.segment(frame(pictures[0]), 'outdoor')
    before = managed.thread_count(), managed.all_parameters()
    sent = []

    def send():
        sent.append(rgb_message(pictures[1], peer.header()))
        managed.publish_at_once(sent[-1])

    timer = peer.node.create_timer(0.005, send)
    unused = set()
    for _ in range(20):
        begin = managed.process.line_count()
        assert managed.change_state(DEACTIVATE)
        counts = frame_counts(managed.process.wait_for('stopped; frames', begin))
        assert counts['failed'] == 0
        assert counts.pop('received') == sum(counts.values())
        sent.clear()
        peer.wait_until(lambda: len(sent) > 2 and not subscriptions(managed), 'no subscription')
        unused.update(stamps_of(sent))
        assert managed.change_state(ACTIVATE)
    peer.node.destroy_timer(timer)
    managed.segment(frame(pictures[0]), 'outdoor')
    assert not unused.intersection(stamps_of(managed.masks('outdoor')))
    peer.wait_until(lambda: len(subscriptions(managed)) == 1, 'one subscription')
    peer.wait_until(lambda: managed.thread_count() == before[0], 'as many threads as before')
    assert managed.all_parameters() == before[1]


def test_cleaning_up_gives_back_the_model_and_all_publishers(managed, peer, pictures):
    bring_to(managed, ACTIVE)
    managed.segment(frame(pictures[0]), 'outdoor')
    for _ in range(2):
        begin = managed.process.line_count()
        bring_to(managed, UNCONFIGURED)
        managed.process.wait_for('the model is gone', begin)
        for domain in DOMAINS:
            topic = f'{managed.node}/{domain}/mask'
            peer.wait_until(lambda topic=topic: not peer.node.count_publishers(topic), topic)
        bring_to(managed, ACTIVE)
        managed.segment(frame(pictures[0]), 'outdoor')


def test_a_node_that_was_shut_down_ends_by_a_signal_and_gives_back_the_model(managed):
    bring_to(managed, ACTIVE)
    begin = managed.process.line_count()
    assert managed.change_state(SHUTDOWN_ACTIVE)
    managed.process.wait_for('the model is gone', begin)
    assert managed.state() == State.PRIMARY_STATE_FINALIZED
    # Ended by the fixture.


def truncated(path, model_file):
    path.write_bytes(Path(model_file).read_bytes()[:-100])


def no_model(path, model_file):
    path.write_text('a text, not a model')


def newer(path, model_file):
    data = Path(model_file).read_bytes()
    assert data.count(b'format_version\\": 3,') == 1
    path.write_bytes(data.replace(b'format_version\\": 3,', b'format_version\\": 9,'))


def missing(path, model_file):
    pass


@pytest.fixture(scope='module')
def idle(start, peer, tmp_path_factory):
    """Return a node whose model file is missing; at last it is told to terminate."""
    path = tmp_path_factory.mktemp('idle') / 'missing.univseg'
    robot = Robot(start, peer, 'idle', '-p', f'model:={path}')
    robot.process.wait_for(f'not configured: {path}: no such model file')
    yield robot
    robot.end(signal.SIGTERM)


@pytest.mark.parametrize(('make', 'reason'), [
    (missing, 'no such model file'), (truncated, 'truncated, damaged or not a model file'),
    (no_model, 'truncated, damaged or not a model file'), (newer, 'format version 9 is newer')])
def test_a_bad_model_is_named(idle, model_file, tmp_path, make, reason):
    path = tmp_path / f'{make.__name__}.univseg'
    make(path, model_file)
    assert idle.set_parameter('model', str(path)).successful
    assert not idle.change_state(CONFIGURE)
    idle.process.wait_for(f'not configured: {path}: {reason}')
    assert idle.state() == UNCONFIGURED
    level, message, values = idle.diagnostics()
    assert level == b'\x02'
    assert message.startswith(f'not configured: {path}: {reason}')
    assert 'model' not in values


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('precision', 'fp8', "'fp8' is not one of auto, fp32, bf16, fp16, int8"),
    ('image_transport', 'theora', "'theora' is not one of raw, compressed"),
    ('reliability', 'perfect', "'perfect' is not one of auto, reliable, best_effort"),
    ('inference_size', -1, 'out of range'), ('depth', 0, 'out of range'),
    ('model', 3, 'Wrong parameter type'), ('autostart', False, 'read-only'),
    ('active_domains', ['Out door'], "'Out door' cannot be the name of a domain"),
    ('active_domains', ['indoor', 'indoor'], 'named twice')])
def test_without_a_model_values_are_judged_all_the_same(idle, name, value, reason):
    before = idle.get_parameter(name)
    result = idle.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason
    assert idle.get_parameter(name) == before


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('model', '', 'the parameter model is empty'),
    ('model', '/', 'not configured: '),
    ('device', 'cuda:77', "device 'cuda:77' is not available"),
    ('device', 'toaster', "device 'toaster' is not available"),
    ('active_domains', ['cellar'], "unknown domain 'cellar'; this model has outdoor, indoor")])
def test_after_a_bad_value_a_good_one_can_follow(idle, model_file, pictures, name, value, reason):
    good = {'model': model_file, 'device': 'cpu', 'active_domains': ['']}
    for parameter in {**good, name: value}.items():
        assert idle.set_parameter(*parameter).successful
    begin = idle.process.line_count()
    assert not idle.change_state(CONFIGURE)
    assert 'not configured: ' in idle.process.wait_for(reason, begin)
    assert idle.set_parameter(name, good[name]).successful
    bring_to(idle, ACTIVE)
    assert idle.get_parameter('active_domains') == ['outdoor']
    idle.segment(frame(pictures[0]), 'outdoor')
    bring_to(idle, UNCONFIGURED)
    assert idle.get_parameter('active_domains') == ['']


def test_a_model_with_other_domains_can_follow(idle, model_file, tmp_path, segmenter, pictures):
    other = tmp_path / 'other.univseg'
    save_model(other, UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8),
                                         [Domain.create('garden', ['grass', 'path'])]),
               ModelCard())
    assert idle.set_parameter('model', model_file).successful
    bring_to(idle, ACTIVE)
    bring_to(idle, INACTIVE)
    assert idle.set_parameter('active_domains', ['indoor']).successful
    bring_to(idle, UNCONFIGURED)
    assert idle.get_parameter('active_domains') == ['']
    assert idle.set_parameter('model', str(other)).successful
    bring_to(idle, ACTIVE)
    assert idle.get_parameter('active_domains') == ['garden']
    idle.segment(frame(pictures[0]), 'garden')
    # What was asked for stays: these domains are not those of the other model.
    bring_to(idle, UNCONFIGURED)
    assert idle.set_parameter('model', model_file).successful
    assert idle.set_parameter('precision', 'fp32').successful
    assert idle.set_parameter('active_domains', ['indoor']).successful
    for _ in range(2):
        bring_to(idle, ACTIVE)
        assert idle.get_parameter('active_domains') == ['indoor']
        sent, mask = idle.segment(frame(pictures[0]), 'indoor')
        assert_shows(mask, segmenter(pictures[0])['indoor'].mask, sent.header)
        bring_to(idle, UNCONFIGURED)
    assert idle.get_parameter('active_domains') == ['indoor']


def test_qos_overrides_of_outputs_outlast_a_cleanup_and_wrong_ones_are_named(
        start, peer, quick_model):
    topic = '/overridden/univseg/{}/mask'
    robot = Robot(
        start, peer, 'overridden', '-p', f'model:={quick_model}', '-p',
        f'qos_overrides.{topic.format("outdoor")}.publisher.reliability:=best_effort', '-p',
        'qos_overrides./overridden/image.subscription.depth:=deep')
    reason = "'qos_overrides./overridden/image.subscription.depth' to 'deep'"
    assert 'not activated: ' in robot.process.wait_for(reason)
    assert robot.state() == INACTIVE
    assert 'not activated: ' in robot.diagnostics()[1]

    def reliability(domain):
        publishers = peer.wait_until(
            lambda: peer.node.get_publishers_info_by_topic(topic.format(domain)), 'a publisher')
        return publishers[0].qos_profile.reliability

    for _ in range(2):
        assert reliability('outdoor') == ReliabilityPolicy.BEST_EFFORT
        assert reliability('indoor') == ReliabilityPolicy.RELIABLE
        begin = robot.process.line_count()
        assert not robot.change_state(ACTIVATE)
        assert 'not activated: ' in robot.process.wait_for(reason, begin)
        bring_to(robot, UNCONFIGURED)
        assert robot.diagnostics()[1] == 'not active: the node is unconfigured'
        peer.wait_until(lambda: not peer.node.count_publishers(topic.format('outdoor')), 'no one')
        bring_to(robot, INACTIVE)
    robot.end(signal.SIGINT)


def test_a_wrong_qos_override_of_an_output_is_named(start, peer, quick_model):
    robot = Robot(start, peer, 'misled', '-p', f'model:={quick_model}', '-p',
                  'qos_overrides./misled/univseg/indoor/mask.publisher.reliability:=perfect')
    assert '`perfect`' in robot.process.wait_for('not configured: ')
    assert robot.state() == UNCONFIGURED
    robot.end(signal.SIGINT)


@pytest.mark.parametrize('signals', [
    [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]], ids=['INT twice', 'TERM'])
def test_signals_in_the_midst_of_configuring_and_of_an_inference_end_the_node(
        start, peer, quick_model, pictures, tmp_path, signals):
    name = 'signalled_' + '_'.join(each.name.lower() for each in signals)
    options = '-p', f'model:={quick_model}'

    def send_signals(robot):
        for each in signals:
            os.kill(robot.process.pid, each)
            peer.handle_for(PAUSE)  # as under `ros2 launch`, where one follows the other

    with fault(tmp_path, 'hold'):
        configuring = Robot(start, peer, f'{name}_configuring', *options,
                            run=(*FAULTY_NODE, str(tmp_path)))
        configuring.process.wait_for('segments')
        send_signals(configuring)
    working = Robot(start, peer, name, *options, run=(*FAULTY_NODE, str(tmp_path)))
    configuring.end(None)
    working.wait_until_active()
    working.segment(frame(pictures[0]), 'outdoor')
    timer = peer.node.create_timer(
        0.02, lambda: working.publish_at_once(rgb_message(pictures[0], peer.header())))
    with fault(tmp_path, 'hold'):
        begin = working.process.line_count()
        peer.wait_until(lambda: working.process.line_count() > begin, 'a held frame')
        send_signals(working)
    working.end(None)
    peer.node.destroy_timer(timer)


def test_ctrl_c_twice_in_the_midst_of_a_computation_is_a_good_end(
        start, peer, model_file, pictures, tmp_path):
    robot = Robot(start, peer, 'computing', '-p', f'model:={model_file}',
                  run=(*FAULTY_NODE, str(tmp_path)))
    robot.wait_until_active()
    robot.segment(frame(pictures[0]), 'outdoor')
    with fault(tmp_path, 'compute'):
        begin = robot.process.line_count()
        robot.publish(rgb_message(pictures[0], peer.header()))
        peer.wait_until(lambda: robot.process.line_count() > begin, 'a frame in work')
        for pause in (0.01, PAUSE, PAUSE):
            os.kill(robot.process.pid, signal.SIGINT)
            peer.handle_for(pause)
    robot.end(None)


def test_services_are_answered_while_a_model_is_loaded(start, peer, quick_model, tmp_path):
    with fault(tmp_path, 'hold'):  # in which the warm-up waits
        robot = Robot(start, peer, 'loading', '-p', f'model:={quick_model}',
                      run=(*FAULTY_NODE, str(tmp_path)))
        robot.process.wait_for('segments')
        assert robot.state() == UNCONFIGURED
        assert robot.diagnostics()[1] == 'not active: the node is loading the model'
        assert robot.set_parameter('max_rate', 5.0).successful
        assert robot.set_parameter('inference_size', 64).successful
        refusal = robot.set_parameter('model', 'another.univseg')
        assert refusal.reason == 'model cannot be set while the model is being loaded'
        assert not robot.change_state(CONFIGURE)
    robot.wait_until_active()
    assert robot.get_parameters(['model', 'max_rate']) == {'model': quick_model, 'max_rate': 5.0}
    assert robot.diagnostics()[2]['inference size'] == '64'
    assert robot.change_state(DEACTIVATE)
    assert robot.change_state(CLEANUP)
    with fault(tmp_path, 'hold'):  # the same where a service asks for it
        begin = robot.process.line_count()
        answer = robot.begin_change_of_state(CONFIGURE)
        robot.process.wait_for('segments', begin)
        assert robot.get_parameter('max_rate') == 5
        assert not answer.done()
        assert robot.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    peer.wait_until(answer.done, 'the answer to who configured it')
    assert not answer.result().success
    assert robot.state() == State.PRIMARY_STATE_FINALIZED
    robot.end(signal.SIGINT)
