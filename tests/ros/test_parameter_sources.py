"""What a start says of its parameters: which came from where, and which came to nothing."""

import signal

import pytest
import rclpy
from robot import NODE
from univseg_ros.parameter_sources import fits, what_was_taken

NODE_NAME = '/robot/univseg'
DECLARED = ['model', 'max_rate', 'max_age', 'depth']


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file and returns its path."""
    def write(text, name='my.yaml'):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)
    return write


def taken(*arguments):
    return what_was_taken(['node', '--ros-args', *arguments], NODE_NAME, DECLARED)


@pytest.mark.parametrize(('key', 'is_its'), [
    ('/robot/univseg', True), ('/**', True), ('/*/univseg', True), ('/**/univseg', True),
    ('/robot/*', True), ('/univseg', False), ('/*', False), ('/robot', False),
    ('/robot/univseg2', False), ('/(', False)])
def test_a_key_is_that_of_a_node_by_rclpys_rule(key, is_its):
    assert fits(key, NODE_NAME) is is_its


def test_what_was_taken_is_told_by_its_source(write):
    path = write('/robot/univseg: {ros__parameters: {model: a, depth: 2}}\n'
                 'robot: {other: {ros__parameters: {max_rate: 1.0}}}\n')
    assert taken('--params-file', path, '-p', 'depth:=3', '-p', 'max_age:=1.0') == (
        f'parameters from {path}: model; from the command line: depth, max_age', [])
    path = write('robot: {univseg: {ros__parameters: {depth: 2}}}')  # the same in another way
    assert taken('-r', '__ns:=/robot', '--params-file', path) == (
        f'parameters from {path}: depth', [])
    assert taken() == ('', [])


@pytest.mark.parametrize('order', [
    ('all', 'own', 'command'), ('own', 'command', 'all'), ('command', 'own', 'all'),
    ('own', 'all', 'command'), ('all', 'command', 'own'), ('command', 'all', 'own')])
def test_the_source_is_that_of_the_value_that_rclpy_takes(ros_domain, write, order):
    files = {name: write(f'{key}: {{ros__parameters: {{depth: {number}}}}}', name)
             for name, key, number in (('all', '/**', 1), ('own', NODE_NAME, 2))}
    arguments = [argument for name in order for argument in
                 (('-p', 'depth:=3') if name == 'command' else ('--params-file', files[name]))]
    node = rclpy.create_node('univseg', namespace='/robot', cli_args=['--ros-args', *arguments])
    value = node.declare_parameter('depth', 0).value
    node.destroy_node()
    source = {1: files['all'], 2: files['own'], 3: 'the command line'}[value]
    assert taken(*arguments) == (f'parameters from {source}: depth', [])


def test_what_comes_later_counts(write):
    first = write('/**: {ros__parameters: {depth: 2, max_age: 1.0}}', 'first.yaml')
    second = write('/**: {ros__parameters: {depth: 3}}', 'launch_params_x')
    assert taken('--params-file', first, '--params-file', second)[0] == (
        f'parameters from the launch file: depth; from {first}: max_age')
    assert taken('--params-file', second, '-p', 'depth:=4', '--', '-p', 'model:=b')[0] == (
        'parameters from the command line: depth')


@pytest.mark.parametrize(('text', 'complaint'), [
    ('/segmentation: {ros__parameters: {depth: 2}}',
     'nothing in it is for this node, /robot/univseg: its keys are /segmentation; expected '
     '/robot/univseg or /**'),
    ('univseg: {ros__parameters: {depth: 2}}', 'its keys are /univseg;'),
    ('depth: 2', 'it has no ros__parameters'), ('', 'it has no ros__parameters'),
    ('\n'.join(f'/n{number}: {{ros__parameters: {{depth: 2}}}}' for number in range(900)),
     'its keys are /n0, /n1, /n2, /n3, /n4 …; expected'),
    ('/robot/univseg: {ros__parameters: {modle: a}}',
     'there is no parameter modle; did you mean model?'),
    ('/**: {ros__parameters: {max_rat: 1.0}}', 'no parameter max_rat; did you mean max_rate?'),
    ('/robot/univseg: {ros__parameters: {a: {b: 1}}}', 'there is no parameter a.b'),
    ('/**: {ros__parameters: {depth: {front: 5}}}', 'there is no parameter depth.front'),
])
def test_what_comes_to_nothing_is_told(write, text, complaint):
    path = write(text)
    _, complaints = taken('--params-file', path)
    assert len(complaints) == 1
    assert complaints[0].startswith(f'{path}: ')
    assert complaint in complaints[0]


@pytest.mark.parametrize('text', [
    '/**: {ros__parameters: {frame_rate: 3}}',  # another node's
    '/robot/univseg: {ros__parameters: {use_sim_time: true, qos_overrides: {/a: {b: 1}}}}'])
def test_of_what_may_be_right_nothing_is_said(write, text):
    assert taken('--params-file', write(text))[1] == []


def test_the_start_tells_it(start, ros_domain, write):
    path = write('/segmentation: {ros__parameters: {max_rate: 2.0}}')
    process = start(*NODE, '--ros-args', '-p', 'autostart:=false', '--params-file', path)
    process.wait_for('parameters from the command line: autostart')
    process.wait_for('nothing in it is for this node, /univseg: its keys are /segmentation')
    assert process.end(signal.SIGINT) == 0


def test_a_value_that_cannot_be_used_is_told_with_its_source(start, ros_domain, write):
    path = write('/**: {ros__parameters: {queue_size: 0}}')
    process = start('-m', 'univseg_ros.bag_recorder', '--ros-args', '--params-file', path)
    assert process.end() == 1
    told = process.wait_for('a parameter cannot be used')
    assert 'queue_size out of range. Min: 1, Max: 100000, value: 0' in told
    assert told.endswith(f' (from {path})\n')


@pytest.mark.parametrize(('text', 'problem'), [
    ('/univseg: {ros_parameters: {depth: 3}}', 'Cannot have a value before ros__parameters at '),
    (None, 'Error opening YAML file; a parameter file has'),
])
def test_a_file_that_ros_cannot_read_is_told_in_a_sentence(start, tmp_path, write, text, problem):
    path = write(text) if text else str(tmp_path / 'missing.yaml')
    process = start('-c', 'import sys\nfrom univseg_ros.signals import ros_until_signal\n'
                    'with ros_until_signal(sys.argv): pass', '--ros-args', '--params-file', path)
    assert process.end() == 1
    told = process.output.splitlines()[-1]  # above it, rcl may have a line of its own
    assert told.startswith(
        f"ROS does not take the arguments: Couldn't parse params file: '--params-file {path}'")
    assert problem in told
    assert '/src/' not in told
    assert 'Traceback' not in process.output
