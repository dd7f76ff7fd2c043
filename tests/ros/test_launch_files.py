"""The launch files and the parameter files that they use."""

import importlib.util
import json
from pathlib import Path
import shutil
import signal

from ament_index_python import get_package_prefix
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


@pytest.mark.parametrize('name', ['outdoor', 'indoor'])
def test_a_domain_s_parameter_file_holds_what_the_node_takes(name):
    parameters = parameters_of(name)
    assert parameters['active_domains'] == [name]
    for parameter, value in parameters.items():
        assert parameter in PARAMETERS
        assert type(value) is type(PARAMETERS[parameter].default)
        assert objection(parameter, value, None) == ''


@pytest.fixture
def segmentation_launch():
    """Return the module segmentation.launch.py."""
    pytest.importorskip('launch_ros', reason='needs a ROS 2 distribution (launch_ros)')
    path = ROOT / 'launch' / 'segmentation.launch.py'
    spec = importlib.util.spec_from_file_location('segmentation_launch', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_launch_argument_is_described(segmentation_launch):
    arguments = segmentation_launch.generate_launch_description().get_launch_arguments()
    assert {argument.name for argument in arguments} == {
        'model', 'params_file', 'namespace', 'image', 'image_transport', 'domains', 'device',
        'autostart', 'use_sim_time', 'log_level'}
    for argument in arguments:
        assert len(argument.description) > 10


def test_only_arguments_that_are_given_win_over_the_parameter_file(segmentation_launch):
    empty = dict.fromkeys(('model', 'image_transport', 'domains', 'device', 'autostart',
                           'use_sim_time'), '')
    assert segmentation_launch.overrides(empty) == {}
    given = segmentation_launch.overrides({
        'model': 'm.univseg', 'image_transport': 'compressed', 'domains': 'outdoor, indoor',
        'device': 'cpu', 'autostart': 'False', 'use_sim_time': 'true'})
    assert given == {
        'model': 'm.univseg', 'image_transport': 'compressed', 'device': 'cpu',
        'active_domains': ['outdoor', 'indoor'], 'autostart': False, 'use_sim_time': True}
    with pytest.raises(ValueError, match='autostart:=yes: expected true or false'):
        segmentation_launch.overrides({**empty, 'autostart': 'yes'})


@pytest.fixture
def ros2_launch(start):
    """Return a function that starts `ros2 launch univseg_ros` with some arguments."""
    ros2 = shutil.which('ros2')
    if ros2 is None:
        pytest.skip('needs a ROS 2 distribution (the ros2 command)')
    try:
        get_package_prefix('univseg_ros')
    except (LookupError, OSError):
        pytest.skip('needs univseg_ros built with colcon and its workspace sourced')
    return lambda *arguments: start('launch', 'univseg_ros', *arguments, program=ros2)


@pytest.mark.parametrize(('file', 'arguments', 'domains'), [
    ('segmentation', ['domains:=indoor,outdoor'], ['indoor', 'outdoor']),
    ('outdoor', [], ['outdoor']),
    ('indoor', [], ['indoor']),
])
def test_a_launched_node_comes_to_active_and_listens_to_the_camera(
        ros2_launch, peer, model_file, file, arguments, domains):
    namespace, camera = f'launched_{file}', f'/{file}_camera/image_raw'
    process = ros2_launch(f'{file}.launch.py', f'model:={model_file}', f'namespace:={namespace}',
                          f'image:={camera}', *arguments)
    active = peer.collect(String, f'/{namespace}/univseg/active_domains', LATCHED_QOS)
    peer.wait_until(lambda: active, 'the active domains')
    assert json.loads(active[0].data) == domains
    peer.wait_until(lambda: peer.node.count_subscribers(camera), f'a subscriber to {camera}')
    assert process.end(signal.SIGINT) == 0
    assert 'process has finished cleanly' in process.output


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
