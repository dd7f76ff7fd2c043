"""What the tests of experiments share: an experiment file, its folder, and a made-up training."""

import sys
import textwrap

import pytest
from tiny_worlds import configuration
import yaml

FAKE = """
import json, os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.default_int_handler)  # as training does
config, _, folder = sys.argv[1:4]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
with open(os.environ['CALLS'], 'a') as calls:
    print(os.path.relpath(folder, os.environ['ROOT']), *sys.argv[4:],
          os.environ.get('OMP_NUM_THREADS'), file=calls)
(folder / 'config.yaml').write_text(pathlib.Path(config).read_text())
print(f'training in {folder}', flush=True)
BODY
(folder / 'model.univseg').touch()
(folder / 'evaluation.json').write_text('{}')
"""


@pytest.fixture
def write(tmp_path, worlds):
    """Return a function that writes an experiment on the tiny worlds, and returns its path."""
    def write(base=None, **changes):
        base_path = tmp_path / 'base.yaml'
        base_path.write_text(yaml.safe_dump(base or configuration(worlds), sort_keys=False))
        path = tmp_path / 'tiny.yaml'
        path.write_text(yaml.safe_dump({
            'base': str(base_path), 'folder': 'tiny', 'labelled': [2],
            'variants': ['supervised_only', 'univ_full'], **changes}))
        return path
    return write


@pytest.fixture
def root(tmp_path):
    """Return the folder of the experiment's runs, which is not made yet."""
    return tmp_path / 'runs' / 'tiny'


@pytest.fixture
def fake(tmp_path, root, monkeypatch):
    """Return a function that makes a command like `train` that does `body`; it notes its calls."""
    calls = tmp_path / 'calls'
    monkeypatch.setenv('CALLS', str(calls))
    monkeypatch.setenv('ROOT', str(root))
    calls.touch()

    def make(body=''):
        script = tmp_path / 'fake.py'
        script.write_text(FAKE.replace('BODY', textwrap.dedent(body)))
        return [sys.executable, str(script)]
    return make
