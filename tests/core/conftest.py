"""
What the tests of the core share; see tiny_worlds.py for what it is made of.

PyTorch is imported where it is used: the process that hands out the tests to others does without.
"""

from contextlib import contextmanager
import fcntl
import logging
import os
from pathlib import Path
import resource
import sys

import pytest
import yaml

# A browser, the served page, and the kinds of damaged files are those of the benchmarks.
sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))


def pytest_collection_modifyitems(items):
    """Begin with the longest, so that at the end no process of the tests waits for it alone."""
    items.sort(key=lambda item: item.path.name != 'test_walk.py')


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    """Compute on one: the networks are tiny, and more threads only get in each other's way."""
    import torch
    torch.set_num_threads(1)


@pytest.fixture(scope='session', autouse=True)
def _no_power_cuts():
    """Wait for no disk: what a process has written is there for others, and after its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, 'fsync', lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _as_loud_as_before():
    """Let each test hear what the log says, however quiet a command before it was."""
    yield
    logging.getLogger('univseg_core').setLevel(logging.NOTSET)


@pytest.fixture(scope='session')
def once(tmp_path_factory):
    """Return a function that has one process of the tests fill a folder for all of them."""
    base = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        base = base.parent

    def filled(name, fill):
        folder = base / name
        folder.mkdir(exist_ok=True)
        with (base / f'{name}.done').open('a') as done:
            fcntl.flock(done, fcntl.LOCK_EX)
            if not done.tell():
                fill(folder)
                done.write('done')
        return folder
    return filled


@pytest.fixture(scope='session')
def worlds(once):
    """Return the folder of the two tiny worlds; not to be changed."""
    import tiny_worlds
    return once('worlds', tiny_worlds.write_worlds)


@pytest.fixture
def values(worlds):
    """Return the plain values of the tiny configuration, for a test to change."""
    import tiny_worlds
    return tiny_worlds.configuration(worlds)


@pytest.fixture
def write_config(tmp_path):
    """Return a function that writes plain values as YAML and returns the file's path."""
    def write(values):
        path = tmp_path / 'tiny.yaml'
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path
    return write


@pytest.fixture(scope='session')
def finished_run(worlds, once):
    """Return the folder and configuration of one undisturbed training; not to be changed."""
    # Here, so that the other tests do not wait for training's packages.
    from run_files import leave_out_pictures
    import tiny_worlds
    from univseg_core.settings.config import load_config
    from univseg_core.training.run import train

    def fill(folder):
        path = folder / 'tiny.yaml'
        path.write_text(yaml.safe_dump(tiny_worlds.configuration(worlds), sort_keys=False))
        with pytest.MonkeyPatch.context() as patch:
            leave_out_pictures(patch)
            train(load_config(path), folder / 'tiny')

    folder = once('finished_run', fill)
    return folder / 'tiny', load_config(folder / 'tiny.yaml')


@pytest.fixture
def model(finished_run):
    """Return the path of a trained model file."""
    return finished_run[0] / 'model.univseg'


@pytest.fixture
def bare_training(monkeypatch):
    """Leave out what takes as long as a tiny training itself."""
    # Here, so that the other tests do not wait for training's packages.
    from run_files import leave_out_pictures
    leave_out_pictures(monkeypatch)


@pytest.fixture(scope='session')
def traced(once):
    """Return the ONNX model of the encoder of `small_network(encoder='light')`, as bytes."""
    def fill(folder):
        from tiny_worlds import small_network
        from univseg_core.exporting.network import encoder_to_onnx
        (folder / 'light.onnx').write_bytes(encoder_to_onnx(small_network(encoder='light'), None))

    return (once('traced', fill) / 'light.onnx').read_bytes()  # which takes seconds


@pytest.fixture
def full_disk():
    """Return a context in which no file can grow beyond a few kB."""
    @contextmanager
    def limit():
        usual = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, usual[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    return limit


@pytest.fixture
def drawn(monkeypatch):
    """Return the list of figures that are drawn from now on."""
    from matplotlib.figure import Figure

    figures = []
    begin = Figure.__init__

    def note(self, *arguments, **options):
        begin(self, *arguments, **options)
        figures.append(self)

    monkeypatch.setattr(Figure, '__init__', note)
    return figures


@pytest.fixture
def unsaved(monkeypatch):
    """Leave the files of figures empty, which take longest, where what is in a figure matters."""
    monkeypatch.setattr('matplotlib.figure.Figure.savefig',
                        lambda figure, path, **options: path.touch())
