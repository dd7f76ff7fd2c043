"""The documentation of the segmentation node against the code."""

from collections import Counter
from pathlib import Path
import re

from diagnostic_msgs.msg import DiagnosticArray
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from univseg_core.inference.domain_decision import Decision
from univseg_ros.diagnostics import frame_findings, place_values, QUIET, TROUBLE
from univseg_ros.messages import rgb_message
from univseg_ros.segmentation_node import SegmentationNode
from univseg_ros.statistics import FrameTimes, OUTCOMES, Summary, WINDOW

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
