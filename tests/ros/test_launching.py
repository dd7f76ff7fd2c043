"""What launch files make of their arguments, where there is no launch, too."""

from pathlib import Path
from xml.etree import ElementTree

from launch_examples import documented
import pytest
from univseg_ros import launching
from univseg_ros.parameters import PARAMETERS
import yaml

LAUNCH = Path(__file__).parents[2] / 'launch'
DEFAULTS = {name: default for name, default, _ in launching.COMMON_ARGUMENTS}


@pytest.mark.parametrize(('given', 'expected'), [
    ({}, {}),
    ({'respawn': 'False'}, {}),
    ({'respawn': 'true'}, {'respawn': True, 'respawn_delay': 1.0}),
    ({'respawn': 'True', 'respawn_delay': '0'}, {'respawn': True, 'respawn_delay': 0.0}),
])
def test_a_node_is_started_anew_where_that_is_asked_for(given, expected):
    assert launching.respawn(DEFAULTS | given) == expected


@pytest.mark.parametrize(('given', 'complaint'), [
    ({'respawn': '1'}, 'respawn:=1: expected true or false'),
    *(({'respawn': 'true', 'respawn_delay': delay}, f'respawn_delay:={delay}: expected seconds')
      for delay in ('soon', '-1', 'nan', 'inf')),
    ({'respawn': 'true', 'autostart': 'launch'},
     'respawn:=true: expected false with autostart:=launch'),
])
def test_how_a_node_cannot_be_started_anew_is_told(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        launching.respawn(DEFAULTS | given)


@pytest.mark.parametrize(('text', 'expected'), [
    ('', {}),
    ('front', {'front': 'front/image'}),
    ('front=/f/image_raw, left ,rear=rear/color',
     {'front': '/f/image_raw', 'left': 'left/image', 'rear': 'rear/color'}),
])
def test_a_camera_has_its_topic_or_one_of_its_name(text, expected):
    assert launching.cameras(text) == expected
    assert list(launching.cameras(text)) == list(expected)


@pytest.mark.parametrize('text', ['front,front', 'front=', '=/f/image', '1st', 'a b', 'front/left',
                                  'front:=/f/image_raw', 'fr\u00f6nt'])
def test_what_is_no_name_of_a_camera_is_told(text):
    with pytest.raises(ValueError, match='expected names, each once') as error:
        launching.cameras(text)
    assert f'cameras:={text}' in str(error.value)


def test_nothing_is_asked_of_a_node_unless_launch_is_to_do_it():
    for autostart in ('', 'true', 'false'):
        assert launching.transitions(None, DEFAULTS | {'autostart': autostart}) == []


def test_xml_and_yaml_start_what_python_does():
    xml, = ElementTree.parse(LAUNCH / 'segmentation.launch.xml').getroot()
    from_yaml, = yaml.safe_load((LAUNCH / 'segmentation.launch.yaml').read_text())['launch']
    assert (xml.tag, dict(xml.attrib)) == ('include', from_yaml['include'])
    name = Path(xml.get('file').replace('$(dirname)', str(LAUNCH)))
    assert name == LAUNCH / 'segmentation.launch.py'
    assert name.is_file()


def test_the_documented_nodes_are_alike_and_have_parameters_that_there_are():
    xml, = ElementTree.fromstring(documented('xml')[1])
    parameters = {each.get('name'): each.get('value') for each in xml.iter('param')}
    assert parameters.keys() <= PARAMETERS.keys()
    node = yaml.safe_load(documented('yaml')[0])['launch'][0]['node']
    assert {key: str(value) for key, value in node.items() if key not in ('param', 'remap')} == (
        xml.attrib)
    assert {each['name']: each['value'] for each in node['param']} == {
        name: value.split(',') if ',' in value else value for name, value in parameters.items()}
    assert node['remap'] == [dict(each.attrib) for each in xml.iter('remap')]


def test_the_documented_include_gives_arguments_that_there_are(tables):
    include, = ElementTree.fromstring(documented('xml')[0])
    assert include.get('file').endswith('/segmentation.launch.xml')
    table = tables.ROS['launch-arguments']()
    for argument in include:
        assert f"`{argument.get('name')}`" in table
