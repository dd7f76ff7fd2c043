"""What a command says and does before ROS runs: signals while it starts, and what is missing."""

import os
from pathlib import Path
import platform
import signal
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]

WAITING = """\
import sys, time
class Slow:
    def find_spec(self, name, *_):
        if name in ('cv2', 'rclpy.node'):
            print('importing', flush=True)
            time.sleep(100)
sys.meta_path.insert(0, Slow())
"""
"""Python that makes an import wait which all commands need."""

def call(command):
    return f'from univseg_ros.start import {command}\nsys.exit({command}())\n'


def interrupt_while_it_imports(code, number):
    """Return what a process wrote that was sent a signal while an import waited, and its end."""
    process = subprocess.Popen([sys.executable, '-c', WAITING + code], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == 'importing\n'
    process.send_signal(number)
    return *process.communicate(), process.returncode


@pytest.mark.parametrize(('command', 'number'), [
    ('segmentation_node', signal.SIGINT), ('segmentation_node', signal.SIGTERM),
    ('bag_recorder', signal.SIGINT), ('image_player', signal.SIGINT),
    ('mask_viewer', signal.SIGINT)])
def test_a_signal_while_it_starts_is_a_good_end(command, number):
    assert interrupt_while_it_imports(call(command), number) == ('', '', 0)


@pytest.mark.parametrize('command', ['segmentation_node', 'bag_recorder'])
def test_a_module_that_is_run_ends_as_well(command):
    # As `python -m` does it, but with an import that waits.
    code = f'import runpy\nrunpy.run_module("univseg_ros.{command}", run_name="__main__")\n'
    assert interrupt_while_it_imports(code, signal.SIGINT) == ('', '', 0)


def while_importing(module, error):
    """Return Python that raises an error where a module is imported."""
    return ('import sys\nclass Broken:\n    def find_spec(self, name, *_):\n'
            f'        if name == {module!r}:\n            raise {error}\n'
            'sys.meta_path.insert(0, Broken())\n')


NUMPY = ('; where NumPy 2 is beside modules that were built for NumPy 1, install with -c '
         'constraints-ros.txt')
OTHER = ' has no {}, and so is damaged or of another Python than'


@pytest.mark.parametrize(('before', 'what', 'more'), [
    ('import sys\nsys.modules["safetensors"] = None\n', 'safetensors is not installed for', ''),
    ('import sys\nsys.modules["yaml"] = None\n', 'yaml (pyyaml) is not installed for', ''),
    (while_importing('cv2', 'OSError("libGL.so.1: cannot open shared object file")'),
     'libGL.so.1: cannot open shared object file: this cannot be imported by', ''),
    (while_importing('safetensors', 'ModuleNotFoundError("No module", name="safetensors._rust")'),
     f'safetensors{OTHER.format("safetensors._rust")}', ''),
    # What rclpy says of a distribution of another Python.
    (while_importing('rclpy.node', 'ModuleNotFoundError("No module named \'rclpy._rclpy\'\\nThe C '
                     'extension isn\'t present", name="rclpy._rclpy")'),
     f'rclpy{OTHER.format("rclpy._rclpy")}', ''),
    # packages whose versions do not fit each other
    (while_importing('cv2', 'RuntimeError("operator cv::nms does not exist")'),
     'operator cv::nms does not exist: this cannot be imported by', ''),
    (while_importing('numpy', 'ImportError("numpy.core.multiarray failed to import")'),
     'numpy.core.multiarray failed to import: this cannot be imported by', NUMPY),
    (while_importing('numpy', 'ValueError("numpy.dtype size changed, may indicate\\nbinary '
                     'incompatibility")'),
     'numpy.dtype size changed, may indicate binary incompatibility: this cannot be imported by',
     NUMPY),
], ids=['safetensors', 'yaml', 'library', 'part', 'rclpy', 'versions', 'numpy', 'dtype'])
def test_what_cannot_be_imported_is_told_in_a_sentence(before, what, more):
    process = subprocess.run([sys.executable, '-c', before + call('segmentation_node')],
                             capture_output=True, text=True, check=False, timeout=100)
    assert process.returncode == 1
    assert process.stderr == (
        f'segmentation_node: {what} {sys.executable} (Python {platform.python_version()}), which '
        'this command was built with; install it there, or build with `python3 -m colcon build` '
        f'inside the environment that has it (docs/ros.md, Install){more}\n')


@pytest.mark.parametrize('command', ['segmentation_node', 'image_player'])
def test_without_ros_a_command_says_so_in_a_sentence(command):
    code = ('from importlib import util\n'
            'find = util.find_spec\n'
            'util.find_spec = lambda name: None if name == "rclpy" else find(name)\n'
            'import sys\n')
    process = subprocess.run([sys.executable, '-c', code + call(command)], capture_output=True,
                             text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith(f'{command}: univseg_ros needs ROS 2 (rclpy): source')
    assert process.stderr.endswith(f'{sys.executable} (Python {platform.python_version()})\n')
    assert process.stderr.count('\n') == 1


@pytest.mark.parametrize(('arguments', 'reason'), [
    (['--params-file', 'nowhere.yaml'], "params file: '--params-file nowhere.yaml'"),
    (['--params'], "'--params'"), (['-p', 'depth'], "parameter override rule: '-p depth'")])
def test_arguments_that_ros_cannot_read_are_told_in_a_sentence(arguments, reason):
    pytest.importorskip('rclpy')
    process = subprocess.run([sys.executable, '-m', 'univseg_ros.segmentation_node', '--ros-args',
                              *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.returncode == 1
    assert process.stderr.startswith('segmentation_node: ')
    assert reason in process.stderr
    assert 'Traceback' not in process.stderr


def test_what_no_camera_needs_is_not_imported_and_what_is_imported_is_not_collected():
    code = ('import gc, sys\n'
            'from univseg_ros.start import segmentation_node\n'
            'sys.argv = ["segmentation_node", "--help"]\n'
            'try:\n    segmentation_node()\nexcept SystemExit:\n'
            '    print(gc.isenabled(), gc.get_freeze_count() > len(sys.modules),\n'
            '          {"PIL", "email", "torch"} & sys.modules.keys())\n')
    process = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                             check=True)
    assert process.stdout.endswith('True True set()\n')


def test_setup_py_runs_by_a_link_from_a_folder_of_links(tmp_path):
    # As `colcon build --symlink-install` does it: of what it links, README.md is no part.
    for name in ('setup.py', 'setup.cfg', 'univseg_core', 'univseg_ros', 'launch', 'config',
                 'resource', 'package.xml'):
        (tmp_path / name).symlink_to(ROOT / name)
    process = subprocess.run(
        [sys.executable, 'setup.py', '--name', '--description', '--long-description'],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, 'PYTHONPATH': ''})
    name, _, readme = process.stdout.split('\n', 2)
    assert name == 'univseg_ros'
    assert readme == (ROOT / 'README.md').read_text(encoding='utf-8') + '\n'
