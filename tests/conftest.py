"""What all tests share."""

import gc
import importlib.util
import os
from pathlib import Path
import signal
import sys

import pytest

# The networks are tiny, and so is what a test's own processes compute: more threads only get in
# each other's way.
os.environ.setdefault('OMP_NUM_THREADS', '1')

os.environ.pop('FORCE_COLOR', None)  # a test that wants colours says so

# Looking again and again for garbage among all that packages make when they are imported took a
# tenth of the tests' time.
gc.set_threshold(50_000, 50, 50)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's shell has it of `... &`
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_pycollect_makemodule(module_path, parent):
    """
    Make a module as pytest itself does.

    The plugin of launch_testing, which every ROS distribution installs, would import the module
    while it looks for it; a module that skips itself when it is imported would then take its whole
    folder along.
    """
    return pytest.Module.from_parent(parent, path=module_path)


@pytest.fixture(scope='session')
def tables():
    """Return the module docs/tables.py."""
    path = Path(__file__).parents[1] / 'docs' / 'tables.py'
    sys.path.append(str(path.parent))  # as of a program that is started
    spec = importlib.util.spec_from_file_location('tables', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
