"""docs/recorder.md, and the recorder's parameter file, against the code."""

from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
import pytest
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from recording_robot import image_of
from univseg_core.bags.topics import Topic
from univseg_core.recording.recorder import REASONS
from univseg_core.recording.serialized_image import SerializedImage
from univseg_ros.bag_recorder import BagRecorder
from univseg_ros.camera_topics import IMAGE
from univseg_ros.recorder_diagnostics import summary
from univseg_ros.recorder_parameters import objection, PARAMETERS
import yaml

ROOT = Path(__file__).parents[2]
SERVICES = ('pause', 'resume', 'split', 'write')
TEXT = (ROOT / 'docs' / 'recorder.md').read_text(encoding='utf-8')


def test_the_parameter_file_shows_every_parameter_with_its_default():
    document = yaml.safe_load((ROOT / 'config' / 'ros' / 'recorder.yaml').read_text())
    parameters = document['/**']['ros__parameters']
    assert parameters == {name: spec.default for name, spec in PARAMETERS.items()}
    for name, value in parameters.items():
        assert objection(name, value) == ''
        assert type(value) is type(PARAMETERS[name].default)


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


def test_every_service_is_documented(node):
    services = {name for name, types in node.get_service_names_and_types_by_node(
        'bag_recorder', '/') if 'std_srvs/srv/Trigger' in types}
    assert services == {f'/bag_recorder/{name}' for name in SERVICES}
    for name in SERVICES:
        assert f'`~/{name}`' in TEXT


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
