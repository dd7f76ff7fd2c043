"""docs/recorder.md, and the recorder's parameter file, against the code."""

from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
import pytest
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from recording_robot import image_of
from univseg_core.bags.topics import Topic
from univseg_core.recording.frames import SerializedImage
from univseg_core.recording.recorder import REASONS
from univseg_ros.bag_recorder import BagRecorder
from univseg_ros.camera_topics import IMAGE
from univseg_ros.recorder_diagnostics import summary
from univseg_ros.recorder_parameters import objection, PARAMETERS
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / 'docs' / 'recorder.md').read_text(encoding='utf-8')


def table(title):
    """Return the first table below a heading, as rows of cells."""
    text = TEXT.split(f'\n## {title}\n')[1].split('\n## ')[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in text.splitlines() if line.startswith('|')]
    return rows[2:]


def test_every_parameter_is_documented():
    when = {'unconfigured': 'while unconfigured', 'inactive': 'while inactive',
            'always': 'always', 'start': 'at start'}
    rows = {name.strip('`'): cells for name, *cells in table("The recorder's parameters")}
    assert rows.keys() == PARAMETERS.keys()
    for name, (default, changes, text) in rows.items():
        spec = PARAMETERS[name]
        value = yaml.safe_load(default.strip('`'))
        assert (value, type(value)) == (spec.default, type(spec.default)), name
        assert changes == when[spec.changes]
        for choice in spec.choices:
            assert choice in text
        if spec.bounds:
            assert f'{spec.bounds[0]:g}…{spec.bounds[1]:.0f}' in text, name


def test_the_parameter_file_shows_every_parameter_with_its_default():
    document = yaml.safe_load((ROOT / 'config' / 'ros' / 'recorder.yaml').read_text())
    parameters = document['/**']['ros__parameters']
    assert parameters == {name: spec.default for name, spec in PARAMETERS.items()}
    for name, value in parameters.items():
        assert objection(name, value) == ''
        assert type(value) is type(PARAMETERS[name].default)


def test_every_reason_is_documented():
    assert {name.strip('`'): text for name, text in table('What the recorder says')} == REASONS


@pytest.fixture(scope='module')
def node(ros_domain, tmp_path_factory):
    """Return a recorder that is active."""
    node = BagRecorder()
    node.set_parameters([
        Parameter('directory', value=str(tmp_path_factory.mktemp('bags'))),
        Parameter('min_free', value=0), Parameter('topics', value=['/recorder_docs/image'])])
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()


def test_every_topic_and_service_is_documented(node, peer):
    rows = [(kind, name.strip('`'), types, text)
            for kind, names, types, text in table("The recorder's topics and services")
            for name in names.split(', ')]
    own = node.get_fully_qualified_name()
    services = {name for name, types in node.get_service_names_and_types_by_node(
        'bag_recorder', '/') if 'std_srvs/srv/Trigger' in types}
    assert services == {name.replace('~', own) for kind, name, *_ in rows if kind == 'service'}
    published = {name: types[0] for name, types in node.get_publisher_names_and_types_by_node(
        'bag_recorder', '/')
        if name not in ('/rosout', '/parameter_events', f'{own}/transition_event')}
    assert published == {name.replace('~', own): types.split(',')[0].replace('/', '/msg/')
                         for kind, name, types, _ in rows if kind == 'out'}
    for kind, name, _, text in rows:
        if kind == 'out':
            profile = node.get_publishers_info_by_topic(name.replace('~', own))[0].qos_profile
            assert text.startswith(f'{profile.reliability.name.lower()}, '
                                   f'{profile.durability.name.lower().replace("_", " ")}')


def test_what_status_and_diagnostics_tell_is_documented(node, peer):
    received = peer.collect(DiagnosticArray, '/diagnostics', 10)
    data = serialize_message(image_of(1))
    node._recorder.put(SerializedImage(Topic('/recorder_docs/image', IMAGE), 1, 1, data))
    status = peer.wait_until(lambda: told(node), 'an image that was recorded')
    text = TEXT.split('## What the recorder says')[1]
    for key in status:
        assert f'`{key}`' in text
    values = peer.wait_until(
        lambda: peer.rclpy.spin_once(node, timeout_sec=0.02) or next(
            (each.values for message in received for each in message.status
             if each.name == 'bag_recorder: recording'), None), 'diagnostics')
    assert {value.key for value in values} == {
        'policy', 'topics', 'bag', 'file', 'input rate [Hz]', 'recording rate [Hz]',
        'images seen', 'images kept', 'written [MB]', 'queue [MB]', 'free on disk [MB]',
        'dropped files', *(f'images not kept, {reason}' for reason in REASONS)}
    assert '`input rate [Hz]` and `recording rate [Hz]`' in text


def told(node):
    """Return what ~/status tells, once an image was recorded."""
    found = summary('active', node._recorder.status())
    return found if found['topics'] else None
