"""docs/ros.md against the code."""

from collections import Counter
from pathlib import Path
import re

from diagnostic_msgs.msg import DiagnosticArray
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from univseg_core.pictures.encodings import ENCODINGS
from univseg_ros.diagnostics import frame_findings, QUIET, TROUBLE
from univseg_ros.messages import rgb_message
from univseg_ros.outputs import LabelInfo
from univseg_ros.parameters import PARAMETERS
from univseg_ros.segmentation_node import SegmentationNode
from univseg_ros.statistics import FrameTimes, OUTCOMES, Summary, WINDOW
import yaml

TEXT = (Path(__file__).parents[2] / 'docs' / 'ros.md').read_text(encoding='utf-8')


def section(title: str) -> str:
    """Return the text below a heading of the second level."""
    return TEXT.split(f'\n## {title}\n')[1].split('\n## ')[0]


def test_every_parameter_is_documented_with_when_it_can_be_set():
    rows = re.findall(r'^\| `(\w+)` \|[^|]*\| ([\w ]+) \|', section('Parameters'), re.MULTILINE)
    when = {'unconfigured': 'while unconfigured', 'inactive': 'while inactive',
            'always': 'always', 'start': 'at start'}
    assert dict(rows) == {name: when[spec.changes] for name, spec in PARAMETERS.items()}


def test_what_the_install_section_names_is_what_setup_requires():
    setup = (Path(__file__).parents[2] / 'setup.py').read_text(encoding='utf-8')
    named = re.findall(r"'([\w]+>=[\d.]+)'", section('Install'))
    assert {'torch>=2.6', 'torchvision>=0.21', 'safetensors>=0.4', 'timm>=1.0.31', 'tqdm>=4.66',
            'rosbags>=0.11.7'} <= set(named)
    for requirement in named:
        assert f"'{requirement}'" in setup


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_is_documented(encoding):
    assert re.search(rf'\b{encoding}\b', section('Topics'))


@pytest.fixture(scope='module')
def node(ros_domain, model_file):
    """Return a segmentation node that is active."""
    node = SegmentationNode()
    node.set_parameters([Parameter('model', value=model_file),
                         Parameter('precision', value='fp32')])
    node.trigger_configure()
    node.trigger_activate()
    yield node
    node.destroy_node()


def test_every_output_topic_is_documented_with_its_type_and_qos(node, peer):
    documented, before = {}, ''
    for topic, types, qos in re.findall(
            r'^\| out \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$', section('Topics'), re.MULTILINE):
        before = before if qos == 'the same' else qos
        for domain in ('outdoor', 'indoor') if 'DOMAIN' in topic else ('',):
            name = topic.replace('~', '/univseg').replace('DOMAIN', domain)
            documented[name] = types.split(',')[0].replace('/', '/msg/'), before
    if LabelInfo is None:
        documented = {name: row for name, row in documented.items()
                      if not name.endswith('/label_info')}

    def published():
        """Return the types by topic, but for what every ROS node publishes."""
        topics = peer.node.get_publisher_names_and_types_by_node('univseg', '/')
        return {name: types[0] for name, types in topics
                if name not in ('/rosout', '/parameter_events', '/univseg/transition_event')}

    peer.wait_until(lambda: published().keys() == documented.keys(),
                    f'{sorted(documented)}, and no more')
    for name, type_ in published().items():
        documented_type, qos = documented[name]
        assert type_ == documented_type
        profile = peer.node.get_publishers_info_by_topic(name)[0].qos_profile
        assert qos.startswith(
            f'{profile.reliability.name.lower()}, '
            f'{profile.durability.name.lower().replace("_", " ")}'), name


def test_every_value_of_the_diagnostics_is_documented_and_no_other(node, peer, image):
    rows = re.findall(r'^\| (`[^|]+) \| [^|]+ \|$',
                      section('Diagnostics').split('| values |')[1], re.MULTILINE)
    documented = {key for row in rows for key in re.findall(r'`([^`]+)`', row)}
    times = {'inference', 'own cost', 'age'}  # 'so also of'
    assert times <= documented
    documented = {key for key in documented if key not in times} | {
        key.replace('latency', name) for key in documented if 'latency' in key for name in times}
    received = peer.collect(DiagnosticArray, '/diagnostics', 10)
    peer.collect(Image, '/univseg/outdoor/mask', 1)
    bad = Image()

    def values():
        peer.publish(rgb_message(image, peer.header()), '/image', 1)
        peer.rclpy.spin_once(node, timeout_sec=0.02)
        peer.publish(bad, '/image', 1)
        peer.rclpy.spin_once(node, timeout_sec=0.02)
        found = {value.key for message in received for value in message.status[0].values}
        return found if {'age, median [ms]', 'last frame undecodable'} <= found else None

    shown = peer.wait_until(values, 'diagnostics of a published frame and of one undecodable')
    # Of these, the documentation names some and an ellipsis.
    assert {'frames received', 'frames published'} < documented
    documented |= {f'frames {outcome}' for outcome in OUTCOMES}
    # There is no validation and no GPU.
    assert shown == documented - {'mIoU of DOMAIN [%]', 'GPU memory [MB]'}


def test_every_outcome_of_a_frame_is_documented():
    row, = re.findall(r'^\| `frames received`.*', section('Diagnostics'), re.MULTILINE)
    named = re.sub(r'\([^)]*\)', '', row.split('counted once:')[1])
    assert re.findall(r'\w+', named) == list(OUTCOMES)


def test_the_messages_of_the_diagnostics_are_documented():
    text = section('Diagnostics')
    for words in TROUBLE.values():
        assert words in text
    counts = Counter(published=1)
    times = dict.fromkeys(FrameTimes.__annotations__, (0.0, 0.0))
    told = [*frame_findings(Summary(counts, {}, 10.0, 9.8, times, 8.0), 5.0),
            *frame_findings(Summary(Counter(unwatched=1), {}, 10.0, 0.0, {}, 0.0), 5.0)]
    assert len(told) == 3
    for message in [*(finding.text for finding in told), QUIET]:
        assert f'`{message}`' in text
    assert f'over the last {WINDOW:.0f} s' in text


def test_every_default_is_documented():
    rows = re.findall(r'^\| `(\w+)` \| ([^|]*)\|', section('Parameters'), re.MULTILINE)
    documented = {name: yaml.safe_load(cell.strip(' `') or "''") for name, cell in rows}
    assert documented == {name: spec.default for name, spec in PARAMETERS.items()}
    assert all(type(value) is type(PARAMETERS[name].default) for name, value in documented.items())


def test_choices_and_bounds_are_documented():
    rows = dict(re.findall(r'^\| `(\w+)` \|[^|]*\|[^|]*\| ([^|]*) \|', section('Parameters'),
                           re.MULTILINE))
    for name, spec in PARAMETERS.items():
        assert rows[name].endswith(', '.join(spec.choices))
        assert re.findall(r'\d+…\d+', rows[name]) == (
            [f'{spec.bounds[0]:g}…{spec.bounds[1]:g}'] if spec.bounds else [])
