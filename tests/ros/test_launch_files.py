"""The launch files and the parameter files that they use."""

import importlib.util
import json
import os
from pathlib import Path
import re
import signal

from launch_examples import documented
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
import pytest
from rcl_interfaces.srv import GetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from univseg_ros.parameters import objection, PARAMETERS
import yaml

ROOT = Path(__file__).parents[2]
LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def parameters_of(name):
    """Return the parameters in a file of config/ros."""
    document = yaml.safe_load((ROOT / 'config' / 'ros' / f'{name}.yaml').read_text())
    assert list(document) == ['/**']
    assert list(document['/**']) == ['ros__parameters']
    return document['/**']['ros__parameters']


def test_the_parameter_file_shows_every_parameter_with_its_default():
    assert parameters_of('segmentation') == {
        name: spec.default for name, spec in PARAMETERS.items()}


@pytest.mark.parametrize('name', ['outdoor', 'indoor', 'nav2_tutorial'])
def test_a_launch_file_s_parameter_file_holds_what_the_node_takes(name):
    parameters = parameters_of(name)
    assert name == 'nav2_tutorial' or parameters['active_domains'] == [name]
    for parameter, value in parameters.items():
        assert parameter in PARAMETERS
        assert type(value) is type(PARAMETERS[parameter].default)
        assert objection(parameter, value, None) == ''


@pytest.fixture
def load_launch_file():
    """Return a function that imports a launch file."""
    pytest.importorskip('launch_ros', reason='needs a ROS 2 distribution (launch_ros)')

    def load(name):
        path = ROOT / 'launch' / f'{name}.launch.py'
        spec = importlib.util.spec_from_file_location(f'{name}_launch', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def segmentation_launch(load_launch_file):
    """Return the module segmentation.launch.py."""
    return load_launch_file('segmentation')


def test_every_launch_argument_is_described(segmentation_launch):
    arguments = segmentation_launch.generate_launch_description().get_launch_arguments()
    assert {argument.name for argument in arguments} == {
        'model', 'params_file', 'namespace', 'image', 'image_transport', 'domains', 'device',
        'backend', 'precision', 'autostart', 'use_sim_time', 'log_level', 'dds_profile',
        'cameras', 'respawn', 'respawn_delay'}
    for argument in arguments:
        assert len(argument.description) > 10
        if argument.name in ('backend', 'precision'):
            assert argument.description.endswith(', '.join(PARAMETERS[argument.name].choices))


@pytest.mark.parametrize('file', ['outdoor', 'indoor'])
def test_every_launch_file_shows_all_arguments_and_its_own_parameter_file(load_launch_file, file):
    shown = {argument.name: ''.join(part.describe() for part in argument.default_value)
             for argument in load_launch_file(file).generate_launch_description()
             .get_launch_arguments()}
    expected = load_launch_file('segmentation').generate_launch_description()
    assert shown.keys() == {argument.name for argument in expected.get_launch_arguments()}
    assert shown['params_file'] == f"'{ROOT / 'config' / 'ros' / f'{file}.yaml'}'"


def test_only_arguments_that_are_given_win_over_the_parameter_file(segmentation_launch):
    empty = dict.fromkeys(('model', 'image_transport', 'domains', 'device', 'backend',
                           'precision', 'autostart', 'use_sim_time', 'cameras'), '')
    assert segmentation_launch.overrides(empty) == {}
    given = segmentation_launch.overrides({
        'model': 'm.univseg', 'image_transport': 'compressed', 'domains': 'outdoor, indoor',
        'device': 'cpu', 'backend': 'openvino', 'precision': 'fp32', 'autostart': 'False',
        'use_sim_time': 'true', 'cameras': 'front=/f/image_raw, left'})
    assert given == {
        'cameras': ['front', 'left'], 'model': 'm.univseg', 'image_transport': 'compressed',
        'device': 'cpu', 'backend': 'openvino', 'precision': 'fp32',
        'active_domains': ['outdoor', 'indoor'],
        'autostart': False, 'use_sim_time': True}
    with pytest.raises(ValueError, match='autostart:=yes: expected true, launch or false'):
        segmentation_launch.overrides({**empty, 'autostart': 'yes'})
    assert segmentation_launch.overrides({**empty, 'autostart': 'launch'}) == {'autostart': False}
    assert segmentation_launch.overrides({**empty, 'domains': 'auto'}) == {
        'active_domains': ['auto']}


def test_each_camera_has_its_topic(segmentation_launch):
    assert segmentation_launch.remappings({'image': '/cam/image', 'cameras': ''}) == [
        ('image', '/cam/image')]
    assert segmentation_launch.remappings({'image': 'image', 'cameras': 'front=/f/raw,left'}) == [
        ('front/image', '/f/raw'), ('left/image', 'left/image')]
    with pytest.raises(ValueError, match='image:=/cam/image: expected none beside cameras'):
        segmentation_launch.remappings({'image': '/cam/image', 'cameras': 'front'})


@pytest.fixture
def environment(monkeypatch):
    """Return a function that sets the variables that decide about a DDS profile."""
    def set_variables(**variables):
        for name in ('ROS_DISTRO', 'RMW_IMPLEMENTATION', 'FASTRTPS_DEFAULT_PROFILES_FILE',
                     'FASTDDS_DEFAULT_PROFILES_FILE'):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    return set_variables


SHIPPED_PROFILE = ROOT / 'config' / 'ros' / 'fastdds_large_images.xml'


@pytest.mark.parametrize(('distribution', 'variable'), [
    ('humble', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
    ('jazzy', 'FASTRTPS_DEFAULT_PROFILES_FILE'),
    ('kilted', 'FASTDDS_DEFAULT_PROFILES_FILE'),
    ('rolling', 'FASTDDS_DEFAULT_PROFILES_FILE'),
])
def test_a_dds_profile_goes_into_the_variable_that_the_distribution_reads(
        segmentation_launch, environment, distribution, variable):
    environment(ROS_DISTRO=distribution)
    given, told = segmentation_launch.dds_environment('large_images')
    assert given == {variable: str(SHIPPED_PROFILE)}
    assert 'the camera needs it as well' in told


def test_a_dds_profile_of_one_s_own_and_none(segmentation_launch, environment, tmp_path,
                                             monkeypatch):
    environment(ROS_DISTRO='jazzy')
    (tmp_path / 'mine.xml').touch()
    monkeypatch.chdir(tmp_path)
    given, _ = segmentation_launch.dds_environment('mine.xml')
    assert given == {'FASTRTPS_DEFAULT_PROFILES_FILE': str(tmp_path / 'mine.xml')}
    assert segmentation_launch.dds_environment('') == ({}, '')
    with pytest.raises(ValueError, match=r'dds_profile:=yours.xml: expected large_images or an '
                       rf'XML file; there is no {tmp_path}/yours.xml'):
        segmentation_launch.dds_environment('yours.xml')


@pytest.mark.parametrize('variables', [
    {'FASTRTPS_DEFAULT_PROFILES_FILE': '/robot/dds.xml'},
    {'FASTDDS_DEFAULT_PROFILES_FILE': '/robot/dds.xml'},
    {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'},
])
@pytest.mark.parametrize('distribution', ['jazzy', 'kilted'])
def test_a_dds_profile_takes_no_other_s_place_and_says_so(
        segmentation_launch, environment, variables, distribution):
    environment(ROS_DISTRO=distribution, **variables)
    given, told = segmentation_launch.dds_environment('large_images')
    assert given == {}
    (name, value), = variables.items()
    assert 'dds_profile is ignored' in told
    assert name in told
    assert value in told


@pytest.mark.parametrize(('file', 'arguments', 'domains'), [
    ('segmentation.launch.py', ['domains:=indoor,outdoor'], ['indoor', 'outdoor']),
    ('segmentation.launch.xml', ['domains:=indoor,outdoor'], ['indoor', 'outdoor']),
    ('segmentation.launch.yaml', ['autostart:=launch'], ['outdoor']),
    ('outdoor.launch.py', ['autostart:=launch'], ['outdoor']),
    ('indoor.launch.py', [], ['indoor']),
])
def test_a_launched_node_comes_to_active_and_listens_to_the_camera(
        ros2_launch, peer, model_file, file, arguments, domains):
    namespace = f'launched_{file.replace(".", "_")}'
    camera = f'/{namespace}/camera/image_raw'
    process = ros2_launch(file, f'model:={model_file}', f'namespace:={namespace}',
                          f'image:={camera}', *arguments)
    active = peer.collect(String, f'/{namespace}/univseg/active_domains', LATCHED_QOS)
    peer.wait_until(lambda: active, 'the active domains')
    assert json.loads(active[0].data) == domains
    peer.wait_until(lambda: peer.node.count_subscribers(camera), f'a subscriber to {camera}')
    assert process.end(signal.SIGINT) == 0
    assert 'process has finished cleanly' in process.output
    assert 'nothing in it is for this node' not in process.output


def test_a_node_that_was_killed_is_started_anew(ros2_launch, peer, model_file):
    process = ros2_launch('indoor.launch.py', f'model:={model_file}', 'namespace:=killed',
                          'respawn:=true', 'respawn_delay:=0.1')
    pids = re.compile(r'process started with pid \[(\d+)\]')
    process.wait_for('active; domains: indoor')
    pid, = pids.findall(process.output)
    lines = process.line_count()
    os.kill(int(pid), signal.SIGKILL)
    process.wait_for('process has died', lines)
    process.wait_for('active; domains: indoor', lines)
    assert len(set(pids.findall(process.output))) == 2
    assert process.end(signal.SIGINT) == 0


def test_the_node_of_nav2s_tutorial_has_its_topics(ros2_launch, peer, model_file):
    process = ros2_launch('nav2_segmentation.launch.py', f'model:={model_file}', 'domain:=indoor',
                          'namespace:=tutorial')
    process.wait_for('active; domains: indoor')
    for name in ('mask', 'confidence', 'overlay'):
        peer.wait_until(lambda name=name: peer.node.count_publishers(f'/segmentation/{name}'),
                        name)
    peer.wait_until(lambda: peer.node.count_subscribers('/rgbd_camera/image'), 'a subscriber')
    node = '/tutorial/univseg'
    values = peer.call(GetParameters, f'{node}/get_parameters', GetParameters.Request(
        names=['use_sim_time', 'max_rate'])).values
    assert values[0].bool_value
    assert values[1].double_value == parameters_of('nav2_tutorial')['max_rate']
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize(('language', 'number', 'domains'), [
    ('xml', 0, 'outdoor, indoor'), ('xml', 1, 'outdoor, indoor'), ('yaml', 0, 'outdoor, indoor'),
    ('py', 1, 'outdoor')])
def test_the_documented_launch_files_start_a_node(
        ros2_launch, model_file, tmp_path, language, number, domains):
    path = tmp_path / f'robot.launch.{language}'
    path.write_text(documented(language)[number].replace('/path/model.univseg', model_file))
    process = ros2_launch(path)
    process.wait_for(f'active; domains: {domains}')
    if language == 'py':
        process.wait_for('masks come')
    assert process.end(signal.SIGINT) == 0


@pytest.mark.parametrize(('argument', 'complaint'), [
    ('autostart:=maybe', 'launch argument autostart:=maybe: expected true, launch or false'),
    ('respawn:=yes', 'launch argument respawn:=yes: expected true or false'),
    ('cameras:=front,front', 'launch argument cameras:=front,front: expected names, each once'),
    ('use_sim_time:=1', 'launch argument use_sim_time:=1: expected true or false'),
    ('params_file:=/no.yaml', 'launch argument params_file:=/no.yaml: expected a YAML file'),
    ('log_level:=loud', 'launch argument log_level:=loud: expected one of debug, info, warn'),
    ('dds_profile:=/no.xml', 'launch argument dds_profile:=/no.xml: expected large_images or'),
    ('image:=/1st/image', '1st/image'),
])
def test_a_bad_launch_argument_starts_nothing_and_is_told_in_a_sentence(
        ros2_launch, argument, complaint):
    process = ros2_launch('outdoor.launch.py', argument)
    assert process.end() == 1
    assert complaint in process.output
    assert 'process started' not in process.output


def test_launch_leaves_the_transitions_to_a_lifecycle_manager(ros2_launch, peer, model_file):
    process = ros2_launch('segmentation.launch.py', 'autostart:=false', 'namespace:=managed',
                          'use_sim_time:=true', f'model:={model_file}')
    response = peer.call(GetState, '/managed/univseg/get_state', GetState.Request())
    assert response.current_state.id == State.PRIMARY_STATE_UNCONFIGURED
    values = peer.call(GetParameters, '/managed/univseg/get_parameters', GetParameters.Request(
        names=['autostart', 'use_sim_time', 'model'])).values
    assert [values[0].bool_value, values[1].bool_value] == [False, True]
    assert values[2].string_value == model_file
    assert process.end(signal.SIGINT) == 0
