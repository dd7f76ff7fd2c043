"""What the ROS package has: parameters and arguments, and what nodes that run have made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import importlib
from pathlib import Path
import re
import runpy
import sys
import tempfile
from typing import Any
from unittest.mock import MagicMock, patch

from tabled.markdown import code, ROOT, table


def parameters(module: str) -> str:
    """Return a node's parameters."""
    from univseg_ros.parameter_table import CHANGES, values
    specs = importlib.import_module(module).PARAMETERS
    return table('parameter,values,default,can be set,meaning', (
        (code(name), values(spec), code(spec.default),
         re.sub('^(Can be set|Read) ', '', CHANGES[spec.changes]).rstrip('.'), spec.description)
        for name, spec in specs.items()))


def launch_arguments(file: str) -> str:
    """Return the arguments of a launch file, which are read where there is no ros2 launch, too."""
    importlib.import_module('univseg_ros.parameters')  # and rclpy, which stay when launch goes
    launch = ('launch', 'launch.actions', 'launch.substitutions', 'launch_ros',
              'launch_ros.actions', 'ament_index_python')
    with patch.dict(sys.modules, {name: MagicMock() for name in launch}):
        arguments = runpy.run_path(str(ROOT / 'launch' / file))['ARGUMENTS']
    return table('argument,default,meaning', (
        (code(name), code(default.removeprefix(f'{ROOT}/')), text)
        for name, default, text in arguments))


def outcomes() -> str:
    """Return what a frame that came to the segmentation node can come to."""
    from univseg_ros.statistics import OUTCOMES
    return table('count,', ((code(name), text) for name, text in OUTCOMES.items()))


def topics() -> str:
    """Return what the segmentation node publishes, read off one that runs."""
    with _segmenting() as node:
        return _published(node)


@contextmanager
def _segmenting() -> Iterator[Any]:
    """Return a segmentation node that has a model with the domain `domain`."""
    from rclpy.parameter import Parameter
    from univseg_core.domains import Domain
    from univseg_core.models.model_file import ModelCard, save_model
    from univseg_core.models.universal import ModelSpec, UniversalSegmenter
    from univseg_ros.segmentation_node import SegmentationNode
    model = UniversalSegmenter(ModelSpec('light', width=1 / 16, embedding_dim=4),
                               [Domain.create('domain', ['class'])])
    with tempfile.TemporaryDirectory() as folder, _running(SegmentationNode) as node:
        save_model(path := Path(folder) / 'a.univseg', model, ModelCard())
        node.set_parameters([Parameter('model', value=str(path)),
                             Parameter('traversable', value=['class'])])
        node.trigger_configure()
        yield node


def recorder_topics() -> str:
    """Return what the recorder publishes, read off one that runs."""
    from univseg_ros.bag_recorder import BagRecorder
    with _running(BagRecorder) as node:
        return _published(node)


def services() -> str:
    """Return the services of the nodes that are their own, read off nodes that run."""
    from univseg_ros.bag_recorder import BagRecorder
    with _segmenting() as segmenter, _running(BagRecorder) as recorder:
        return table('node,service,type', (
            (code(node.get_name()), code(name), kind)
            for node in (segmenter, recorder) for name, kind in _served(node)))


def _served(node: Any) -> Iterator[tuple[str, str]]:
    """Yield the services of a node that not every node, or every lifecycle node, has."""
    for service in node.services:
        package, _, _ = service.srv_type.__module__.partition('.')
        if package not in ('rcl_interfaces', 'lifecycle_msgs', 'type_description_interfaces'):
            name = service.srv_name.replace(node.get_fully_qualified_name(), '~')
            yield (name.replace('/domain/', '/DOMAIN/'),
                   f'{package}/{service.srv_type.__name__}')


def executables() -> str:
    """Return the programs of the ROS package that a user starts, with the first word on each."""
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    rows = []
    for name in re.findall(r"'(\w+) = univseg_ros\.start:", setup):
        text = importlib.import_module(f'univseg_ros.{name}').__doc__ or ''
        rows.append((code(name), ' '.join(text.split('\n\n')[0].split()).rstrip('.')))
    return table('executable,what', iter(rows))


@contextmanager
def _running(kind: Callable[[], Any]) -> Iterator[Any]:
    """Return a node, which is destroyed at the end, and ROS ended where it began here."""
    import rclpy
    begins = not rclpy.ok()
    if begins:
        rclpy.init()
    node = kind()
    try:
        yield node
    finally:
        node.destroy_node()
        if begins:
            rclpy.shutdown()


def _published(node: Any) -> str:
    """Return the topics of a node's publishers, with their types and QoS."""
    def row(publisher: Any) -> tuple[str, ...]:
        name = publisher.topic_name.replace(node.get_fully_qualified_name(), '~')
        package, _, _ = publisher.msg_type.__module__.partition('.')
        qos = publisher.qos_profile
        words = (qos.reliability.name, qos.durability.name, f'depth {qos.depth}')
        return (code(name.replace('/domain/', '/DOMAIN/')),
                f'{package}/{publisher.msg_type.__name__}',
                ', '.join(words).lower().replace('_', ' '))

    # Every node has the former; the latter has none without vision_msgs, which the page tells.
    return table('topic,type,QoS', (row(publisher) for publisher in node.publishers if
                 not publisher.topic_name.endswith(('/parameter_events', '/label_info'))))
