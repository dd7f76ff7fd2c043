"""The Dockerfiles of docs/docker: what they copy is there, and what they install is asked for."""

import io
from pathlib import Path
import re
import runpy
import shlex

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / 'docs' / 'docker').glob('*.Dockerfile'))


def instructions(file):
    """Return the instructions of a Dockerfile, each a list of words, without comments."""
    lines = io.StringIO(''.join(line for line in file.read_text(encoding='utf-8').splitlines(True)
                                if not line.startswith('#')).replace('\\\n', ' '))
    return [shlex.split(line) for line in lines if line.strip()]


@pytest.mark.parametrize('file', DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_copies_what_there_is_and_all_that_a_build_takes(file):
    words = instructions(file)
    assert words[0][0] == 'FROM'
    assert {name for name, *_ in words} <= {'FROM', 'ENV', 'RUN', 'WORKDIR', 'COPY', 'ENTRYPOINT'}
    copies = [arguments for name, *arguments in words if name == 'COPY']
    for *sources, target in copies:
        for source in sources:
            assert (ROOT / source).exists(), source
            # Docker copies what is in a folder, not the folder.
            assert not (ROOT / source).is_dir() or target == f'src/univseg/{source}'
    copied = {source for *sources, _ in copies for source in sources}
    assert copied >= {'package.xml', 'setup.py', 'setup.cfg', 'pyproject.toml', 'README.md',
                      'resource', 'launch', 'config', 'univseg_core', 'univseg_ros'}
    started = next(arguments for name, *arguments in words if name == 'ENTRYPOINT')
    assert ' '.join(started) == '[bash, /ws/run.sh]'
    assert 'docs/docker/run.sh' in copied


@pytest.mark.parametrize('file', DOCKERFILES, ids=lambda file: file.name)
def test_a_dockerfile_installs_what_setup_py_asks_for_and_no_pytorch(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    given = {}
    monkeypatch.setattr('setuptools.setup', lambda **arguments: given.update(arguments))
    runpy.run_path('setup.py')
    allowed = {*given['install_requires'], *given['extras_require']['onnx'],
               *given['extras_require']['openvino']}
    # What NVIDIA's GPUs take in the place of onnxruntime.
    allowed |= {each.replace('onnxruntime', 'onnxruntime-gpu') for each in allowed}
    named = {word for name, *words in instructions(file) if name == 'RUN'
             for word in words if re.fullmatch(r'[\w-]+[<>=]=?[\d.]+', word)}
    assert named <= allowed
    assert 'safetensors>=0.4' in named
    assert any(name.startswith(('onnxruntime', 'openvino')) for name in named)


def test_there_is_a_dockerfile_for_each_kind_that_the_page_walks():
    page = (ROOT / 'docs' / 'deploy.md').read_text(encoding='utf-8')
    assert {file.name for file in DOCKERFILES} == set(re.findall(r'docker/([\w.]+Dockerfile)\)',
                                                                 page))
