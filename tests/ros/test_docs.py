"""The documentation of the segmentation node against the code."""

from collections import Counter
from itertools import pairwise, takewhile
from pathlib import Path
import re

from diagnostic_msgs.msg import DiagnosticArray
from documented import all_commands
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from univseg_core.inference.domain_decision import Decision
from univseg_ros import image_player, mask_viewer, parameters, recorder_parameters
from univseg_ros.diagnostics import frame_findings, place_values, QUIET, TROUBLE
from univseg_ros.messages import rgb_message
from univseg_ros.parameter_table import table_objection, type_objection
from univseg_ros.segmentation_node import SegmentationNode
from univseg_ros.statistics import FrameTimes, OUTCOMES, Summary, WINDOW
import yaml

DOCS = Path(__file__).parents[2] / 'docs'


def section(page: str, title: str) -> str:
    """Return the text of a page below a heading of the second level."""
    text = (DOCS / page).read_text(encoding='utf-8')
    return text.split(f'\n## {title}\n')[1].split('\n## ')[0]


def test_no_table_is_stale(tables, ros_domain):
    assert tables.stale(tables.ROS) == []


def test_what_the_install_section_names_is_what_setup_requires():
    setup = (Path(__file__).parents[2] / 'setup.py').read_text(encoding='utf-8')
    named = re.findall(r"'([\w]+>=[\d.]+)'", section('ros.md', 'Install'))
    assert {'torch>=2.6', 'torchvision>=0.21', 'safetensors>=0.4', 'timm>=1.0.31',
            'threadpoolctl>=3.1', 'tqdm>=4.66', 'rosbags>=0.11.7'} <= set(named)
    for requirement in named:
        assert f"'{requirement}'" in setup


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


def test_every_value_of_the_diagnostics_is_documented_and_no_other(node, peer, image):
    table = section('segmentation_node.md', 'Diagnostics').split('| values |')[1]
    rows = re.findall(r'^\| (`[^|]+) \| [^|]+ \|$', table.split('\n\n')[0], re.MULTILINE)
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
    shown |= place_values(Decision()).keys()  # which only auto has
    # Of these, the documentation names some and an ellipsis.
    assert {'frames received', 'frames published'} < documented
    documented |= {f'frames {outcome}' for outcome in OUTCOMES}
    # There is no validation, no GPU, one camera, and one backend for a model file.
    assert shown == documented - {'mIoU of DOMAIN [%]', 'GPU memory [MB]', 'batch',
                                  'encoder by BACKEND, when compared [ms]'}


def test_the_messages_of_the_diagnostics_are_documented():
    text = section('segmentation_node.md', 'Diagnostics')
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


TABLES = {'segmentation_node': parameters, 'univseg': parameters,
          'bag_recorder': recorder_parameters}
"""The parameters of what is called so: an executable, a node."""


def started(command):
    """Return the words of a command, without the `ros2 run` of a workspace."""
    words = [*command.words]
    return words[3:] if words[:3] == ['ros2', 'run', 'univseg_ros'] else words


def given(command):
    """Return the parameters that a command sets, and what of `TABLES` they are of."""
    words = started(command)
    if words[:3] == ['ros2', 'param', 'set']:
        return words[3].strip('/'), [(words[4], words[5])]
    return words[0], [word.split(':=') for before, word in pairwise(words) if before == '-p']


COMMANDS = all_commands('ros2', 'segmentation_node', 'bag_recorder', 'image_player', 'mask_viewer')


@pytest.mark.parametrize('command', [each for each in COMMANDS if given(each)[0] in TABLES],
                         ids=str)
def test_a_parameter_that_a_page_sets_takes_the_value(command):
    table, values = given(command)
    for name, text in values:
        if not name.startswith('qos_overrides.'):
            name = name.rpartition('.')[2]  # behind a camera
            spec, value = TABLES[table].PARAMETERS[name], yaml.safe_load(text)
            assert type_objection(name, value, spec) == ''
            assert table_objection(name, value, spec, configured=False, active=False) == ''


TOOLS = {'image_player': image_player, 'mask_viewer': mask_viewer}


@pytest.mark.parametrize('command', [each for each in COMMANDS if started(each)[0] in TOOLS],
                         ids=str)
def test_options_of_player_and_viewer_are_those_that_they_have(command):
    name, *words = started(command)
    TOOLS[name].parse_arguments([*takewhile(lambda word: word != '--ros-args', words)])
