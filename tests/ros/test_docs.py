"""docs/ros.md against the code."""

from pathlib import Path
import re

import pytest
from univseg_ros.messages import ENCODINGS
from univseg_ros.parameters import PARAMETERS

TEXT = (Path(__file__).parents[2] / 'docs' / 'ros.md').read_text(encoding='utf-8')


def section(title: str) -> str:
    """Return the text below a heading of the second level."""
    return TEXT.split(f'\n## {title}\n')[1].split('\n## ')[0]


def test_every_parameter_is_documented_with_when_it_can_be_set():
    rows = re.findall(r'^\| `(\w+)` \|[^|]*\| ([\w ]+) \|', section('Parameters'), re.MULTILINE)
    when = {'unconfigured': 'while unconfigured', 'inactive': 'while inactive',
            'always': 'always', 'start': 'at start'}
    assert dict(rows) == {name: when[spec.changes] for name, spec in PARAMETERS.items()}


def test_what_the_install_section_names_is_what_setup_requires():
    setup = (Path(__file__).parents[2] / 'setup.py').read_text(encoding='utf-8')
    named = re.findall(r"'([\w]+>=[\d.]+)'", section('Install'))
    assert {'torch>=2.6', 'torchvision>=0.21', 'safetensors>=0.4', 'tqdm>=4.66',
            'rosbags>=0.10'} <= set(named)
    for requirement in named:
        assert f"'{requirement}'" in setup


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_is_documented(encoding):
    assert re.search(rf'\b{encoding}\b', section('Topics'))
