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
        if name in ('torch', 'cv2', 'rclpy.node'):
            print('importing', flush=True)
            time.sleep(100)
sys.meta_path.insert(0, Slow())
"""
"""Python that makes an import wait which all commands need."""

BROKEN = """\
import sys
class Broken:
    def find_spec(self, name, *_):
        if name == 'torch':
            raise OSError('libcudart.so.12: cannot open shared object file')
sys.meta_path.insert(0, Broken())
"""


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


@pytest.mark.parametrize(('before', 'what'), [
    ('import sys\nsys.modules["torch"] = None\n', 'torch is not installed for'),
    (BROKEN, 'libcudart.so.12: cannot open shared object file: this cannot be imported by'),
], ids=['missing', 'damaged'])
def test_what_cannot_be_imported_is_told_in_a_sentence(before, what):
    process = subprocess.run([sys.executable, '-c', before + call('segmentation_node')],
                             capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr == (
        f'segmentation_node: {what} {sys.executable} (Python {platform.python_version()}), which '
        'this command was built with; install it there, or build with `python3 -m colcon build` '
        'inside the environment that has it (docs/ros.md, Install)\n')


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
