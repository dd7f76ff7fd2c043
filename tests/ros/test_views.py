"""The views that ship for RViz and Foxglove, against the topics that a node has."""

import json
from pathlib import Path

import pytest
from rclpy.lifecycle import LifecycleNode
from univseg_core.demo.scenes.worlds import WORLDS
from univseg_core.domains import Domain
from univseg_ros.outputs import DomainOutputs
import yaml

SHIPPED = Path(__file__).parents[2] / 'config' / 'ros'
CAMERAS = ('front', 'left')
PICTURES = ('mask', 'confidence', 'overlay')


@pytest.fixture(scope='module')
def topics(ros_domain):
    """Return the types of the outputs of a node of two cameras, by topic."""
    node = LifecycleNode('univseg')
    outputs = [DomainOutputs(node, Domain.create(name, world.classes), f'~/{camera}')
               for camera in CAMERAS for name, world in WORLDS.items()]
    found = {publisher.topic_name: publisher.msg_type.__name__ for publisher in node.publishers}
    for each in outputs:
        each.close()
    node.destroy_node()
    return found


def displays(display):
    """Yield the image displays in a part of an RViz configuration."""
    for inner in display.get('Displays') or []:
        if inner['Class'] == 'rviz_default_plugins/Image':
            yield inner
        yield from displays(inner)


def image_displays(name):
    document = yaml.safe_load((SHIPPED / name).read_text())
    return list(displays(document['Visualization Manager']))


@pytest.mark.parametrize(('file', 'prefixes'), [
    ('univseg.rviz', ['']), ('univseg_two_cameras.rviz', [f'/{name}' for name in CAMERAS])])
def test_rviz_shows_the_cameras_and_all_their_pictures(file, prefixes):
    shown = {image['Topic']['Value']: image for image in image_displays(file)}
    outputs = {f'/univseg{prefix}/{domain}/{name}' for prefix in prefixes for domain in WORLDS
               for name in PICTURES}
    cameras = {f'{prefix}/image' for prefix in prefixes}
    assert shown.keys() == cameras | outputs
    for topic, image in shown.items():
        qos = image['Topic']
        assert qos['Depth'] == 1
        assert qos['History Policy'] == 'Keep Last'
        # The outputs are offered as reliable and volatile; a camera may be best effort.
        assert qos['Durability Policy'] == 'Volatile'
        assert qos['Reliability Policy'] == ('Best Effort' if topic in cameras else 'Reliable')
        assert image['Enabled'] == image['Value']
    assert {topic for topic, image in shown.items() if image['Enabled']} >= {
        f'/univseg{prefix}/outdoor/overlay' for prefix in prefixes}


@pytest.mark.parametrize(('file', 'count'), [
    ('univseg.rviz', 7), ('univseg_two_cameras.rviz', 14)])
def test_the_image_displays_of_rviz_have_names_of_their_own(file, count):
    names = [image['Name'] for image in image_displays(file)]
    assert len(set(names)) == len(names) == count
    geometry = yaml.safe_load((SHIPPED / file).read_text())['Window Geometry']
    docks = {name for name, value in geometry.items() if isinstance(value, dict)}
    assert docks - {'Displays'} <= set(names)


def test_rviz_and_the_node_have_the_same_names_for_two_cameras(topics):
    for image in image_displays('univseg_two_cameras.rviz'):
        topic = image['Topic']['Value']
        assert topics.get(topic) == 'Image' or topic in {f'/{name}/image' for name in CAMERAS}


def panels(layout, configs):
    """Yield the panels in a part of a Foxglove layout, with those in tabs."""
    if isinstance(layout, str):
        yield layout
        for tab in configs[layout].get('tabs', []):
            yield from panels(tab['layout'], configs)
    else:
        assert layout.keys() == {'direction', 'first', 'second', 'splitPercentage'}
        assert layout['direction'] in ('row', 'column')
        assert 0 < layout['splitPercentage'] < 100
        yield from panels(layout['first'], configs)
        yield from panels(layout['second'], configs)


def test_foxglove_shows_what_a_node_of_two_cameras_publishes(topics):
    document = json.loads((SHIPPED / 'foxglove_two_cameras.json').read_text())
    assert {'configById', 'globalVariables', 'userNodes', 'playbackConfig',
            'layout'} == document.keys()
    configs = document['configById']
    placed = list(panels(document['layout'], configs))
    assert sorted(placed) == sorted(configs)  # each once
    shown = set()
    for name, config in configs.items():
        kind = name.partition('!')[0]
        if kind == 'Image':
            mode = config['imageMode']
            assert topics[mode['imageTopic']] in ('Image', 'CompressedImage')
            assert topics[mode['calibrationTopic']] == 'CameraInfo'
            shown.add(mode['imageTopic'])
        elif kind == 'RawMessages':
            topic, _, field = config['topicPath'].partition('.')
            assert field == 'data'
            assert topics.get(topic) == 'String' or topic in {
                f'/univseg/{camera}/domain' for camera in CAMERAS}
            shown.add(topic)
        elif kind.startswith('Diagnostic'):
            assert config['topicToRender'] == '/diagnostics'
        else:
            assert kind == 'Tab'
    assert shown == {f'/univseg/{camera}/{name}' for camera in CAMERAS for name in (
        'domain', 'outdoor/classes', 'outdoor/mask/compressed', 'outdoor/overlay')}
