"""record.launch.py: its arguments, and what they start."""

from datetime import datetime
import importlib.util
from pathlib import Path
import signal

import pytest
from recording_robot import image_of, stamps
from robot import CAMERA_QOS
from univseg_ros.recorder_parameters import objection, PARAMETERS

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 2, 3, 4, 5)


@pytest.fixture
def launch_file():
    """Return the module record.launch.py."""
    pytest.importorskip('launch_ros', reason='needs a ROS 2 distribution (launch_ros)')
    path = ROOT / 'launch' / 'record.launch.py'
    spec = importlib.util.spec_from_file_location('record_launch', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def arguments(launch_file):
    """Return the launch arguments with their defaults."""
    return {name: default for name, default, _ in launch_file.ARGUMENTS}


def test_every_argument_is_described(launch_file):
    for name, _, description in launch_file.ARGUMENTS:
        assert len(description) > 10
        if name in PARAMETERS and (choices := PARAMETERS[name].choices):
            *others, last = choices
            listed = f'{", ".join(others)} or {last}'
            assert listed in description or 'for example' in description


def test_only_arguments_that_are_given_win_over_the_parameter_file(launch_file, arguments):
    assert launch_file.overrides(arguments) == {}
    given = launch_file.overrides({
        **arguments, 'topics': '/front/image, back/image', 'directory': '/data', 'policy': 'novel',
        'compression': 'zstd', 'max_size': '2000', 'rate': '2',
        'when_full': 'drop_oldest', 'autostart': 'False', 'use_sim_time': 'true'})
    assert given == {
        'topics': ['/front/image', 'back/image'], 'directory': '/data', 'policy': 'novel',
        'compression': 'zstd', 'max_size': 2000, 'rate': 2.0,
        'when_full': 'drop_oldest', 'autostart': False, 'use_sim_time': True}
    for name, value in given.items():
        assert objection(name, value) == ''
        assert name == 'use_sim_time' or type(value) is type(PARAMETERS[name].default)
    with pytest.raises(ValueError, match='max_size:=2GB: expected megabytes'):
        launch_file.overrides({**arguments, 'max_size': '2GB'})
    with pytest.raises(ValueError, match='rate:=fast: expected images a second'):
        launch_file.overrides({**arguments, 'rate': 'fast'})


def test_rosbag2_is_called_for_what_the_arguments_say(launch_file, arguments):
    command = launch_file.rosbag2_command({**arguments, 'directory': '/data'}, NOW)
    assert command == [
        'ros2', 'bag', 'record', '--output', '/data/camera_2026_01_02-03_04_05', '--log-level',
        'info', '--disable-keyboard-controls', '--topic-types', 'sensor_msgs/msg/Image',
        'sensor_msgs/msg/CompressedImage']
    command = launch_file.rosbag2_command({
        **arguments, 'topics': '/front/image,image', 'namespace': '/robot', 'use_sim_time': 'true',
        'compression': 'zstd', 'policy': 'all', 'max_size': '0', 'autostart': 'true'}, NOW)
    assert command[-4:] == ['--use-sim-time', '--topics', '/front/image', '/robot/image']
    assert command[5:7] == ['--storage-preset-profile', 'zstd_fast']


@pytest.mark.parametrize(('argument', 'value', 'complaint'), [
    ('policy', 'novel', 'policy:=novel: expected nothing but all: rosbag2 has no such thing'),
    ('max_size', '100', 'max_size:=100: expected nothing but 0: rosbag2 has no such thing'),
    ('when_full', 'drop_oldest', 'when_full:=drop_oldest: expected nothing but stop'),
    ('autostart', 'false', 'autostart:=false: expected nothing but true'),
    ('respawn', 'true', 'respawn:=true: expected nothing but false'),
    ('params_file', 'my.yaml', 'params_file:=my.yaml: expected none: rosbag2 does not read it'),
    ('compression', 'lz4', 'compression:=lz4: expected none or zstd')])
def test_what_rosbag2_does_not_have_is_told(launch_file, arguments, argument, value, complaint):
    with pytest.raises(ValueError, match=complaint):
        launch_file.rosbag2_command({**arguments, argument: value}, NOW)


def test_a_launched_recorder_records_until_it_is_interrupted(ros2_launch, peer, tmp_path):
    process = ros2_launch('record.launch.py', f'directory:={tmp_path}', 'topics:=image',
                          'namespace:=launched', 'policy:=rate', 'dds_profile:=large_images')
    process.wait_for('active; policy rate')
    for number in range(1, 40):
        peer.publish(image_of(number), '/launched/image', CAMERA_QOS)
        peer.handle_for(0.2)
        if 'recording to' in process.output:
            break
    assert process.end(signal.SIGINT) == 0
    assert 'process has finished cleanly' in process.output
    bag, = tmp_path.iterdir()
    assert stamps(bag)['/launched/image']


@pytest.mark.parametrize(('argument', 'complaint'), [
    ('backend:=mine', 'launch argument backend:=mine: expected one of univseg, rosbag2'),
    ('max_size:=2GB', 'launch argument max_size:=2GB: expected megabytes'),
    ('storage:=sqlite3', 'launch argument storage:=sqlite3: expected nothing: bags are MCAP'),
    ('use_sim_time:=1', 'launch argument use_sim_time:=1: expected true or false'),
    ('params_file:=/no.yaml', 'launch argument params_file:=/no.yaml: expected a YAML file')])
def test_a_bad_argument_starts_nothing_and_is_told_in_a_sentence(ros2_launch, argument, complaint):
    process = ros2_launch('record.launch.py', argument)
    assert process.end() == 1
    assert complaint in process.output
    assert 'process started' not in process.output


def test_rosbag2_that_is_not_installed_is_told(ros2_launch):
    if importlib.util.find_spec('rosbag2_py'):
        pytest.skip('rosbag2 is installed')
    process = ros2_launch('record.launch.py', 'backend:=rosbag2')
    assert process.end() == 1
    assert 'backend:=rosbag2: expected univseg: the package ros2bag is not installed' in (
        process.output)
