"""docs/walk.md: its commands, run as they are written."""

from contextlib import suppress
import importlib.util
import json
import os
from pathlib import Path
import random
import re
import signal
import subprocess
import sys
from threading import Thread
import warnings

from bag_files import raw, write_bag
import pytest
from univseg_core.cli import main
from univseg_core.datasets.folders import list_images
from univseg_core.pictures.images import read_image

ROOT = Path(__file__).parents[2]
COMMANDS = {'bag_recorder': 'univseg_ros.bag_recorder', 'image_player': 'univseg_ros.image_player'}

UNIVSEG = """
univseg() {
    printf '%s\\0' "$@" >&$CALLS
    echo >&$CALLS
    read -r status <&$STATUSES
    return "$status"
}
"""
"""`univseg` in a shell that leaves the work to the process of the tests, already there."""

HANGS = 600
"""Seconds after which the commands of a block count as hanging."""


def blocks():
    """Return the shell commands of the page, a text for each block."""
    text = (ROOT / 'docs' / 'walk.md').read_text(encoding='utf-8')
    return re.findall(r'^```sh\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


def end_with_all(shell):
    """Wait for the end of a shell, and end what it leaves behind, as a failing block does."""
    with suppress(subprocess.TimeoutExpired):
        shell.wait(HANGS)
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Return a function that runs commands in a folder of their own, which is its `folder`."""
    commands, folder, output = tmp_path / 'bin', tmp_path / 'walk', tmp_path / 'output.txt'
    commands.mkdir()
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, module in COMMANDS.items():  # as an installation makes them
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        script.chmod(0o755)
    environment = {
        **os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1',
        'PATH': os.pathsep.join([str(commands), str(Path(sys.executable).parent),
                                 os.environ['PATH']]),
        'ROS_DOMAIN_ID': str(random.SystemRandom().randint(1, 100)),
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}

    def run(block):
        (calls, to_us), (from_us, statuses) = os.pipe(), os.pipe()
        with output.open('wb') as file, os.fdopen(calls) as calls, os.fdopen(
                statuses, 'w') as statuses:
            process = subprocess.Popen(
                ['bash', '-eu', '-c', UNIVSEG + block], stdout=file, stderr=file,
                env={**environment, 'CALLS': str(to_us), 'STATUSES': str(from_us)},
                pass_fds=(to_us, from_us), start_new_session=True)
            os.close(to_us)
            os.close(from_us)
            watch = Thread(target=end_with_all, args=(process,))
            watch.start()
            try:
                for call in calls:
                    print(main(call.split('\0')[:-1]), file=statuses, flush=True)
            finally:
                statuses.close()  # what still waits for an answer ends
                watch.join()
        assert process.returncode == 0, f'{block}\n{output.read_text()}'

    run.folder = folder
    return run


@pytest.mark.usefixtures('bare_training')
def test_the_walk_ends_with_a_better_model_and_a_further_place(shell):
    for block in blocks():
        if 'bag_recorder' in block and importlib.util.find_spec('rclpy') is None:
            warnings.warn('needs ROS 2 (rclpy): a bag that rosbags wrote stands for the drive',
                          stacklevel=1)
            images = list_images(shell.folder / 'world' / 'outdoor' / 'unlabelled' / 'image')
            write_bag(shell.folder / 'recordings' / 'drive', {
                '/front/image_raw': [raw(i, read_image(path)) for i, path in enumerate(images)]})
        else:
            shell(block)

    def figures(run):
        return json.loads((shell.folder / 'runs' / run / 'evaluation.json').read_text())

    assert len(list_images(shell.folder / 'frames')) >= 20  # of 24
    assert len(list_images(shell.folder / 'world' / 'outdoor' / 'train' / 'label')) == 3 + 12
    first, second, third = (figures(run) for run in ('first', 'second', 'third'))
    assert second['outdoor']['before']['miou'] == first['outdoor']['miou']
    # As many further steps on the first labels alone bring half a point.
    assert second['outdoor']['miou'] > first['outdoor']['miou'] + 0.04
    assert third['outdoor']['before']['miou'] == second['outdoor']['miou']
    assert third['indoor']['miou'] > 0 and 'before' not in third['indoor']
