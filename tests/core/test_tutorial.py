"""docs/tutorial.md: its labels come in as it says, and seven commands lead to masks on a topic."""

import re

from documented import blocks, commands, ROOT
import numpy as np
import pytest
from univseg_core.cli import main
from univseg_core.pictures.images import write_png
import yaml

PAGE = ROOT / 'docs' / 'tutorial.md'


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Write the page's configuration, and ten pictures with labels of each of its places."""
    monkeypatch.chdir(tmp_path)
    configuration, = blocks(PAGE, 'yaml')
    (tmp_path / 'places.yaml').write_text(configuration, encoding='utf-8')
    domains = yaml.safe_load(configuration)['domains']
    generator = np.random.default_rng(0)
    for name, section in domains.items():
        for number in range(10):
            write_png(tmp_path / 'pictures' / name / f'{number:04}.png',
                      generator.integers(0, 256, (24, 32, 3), np.uint8))
            write_png(tmp_path / 'annotated' / name / f'{number:04}.png',
                      generator.integers(0, len(section['classes']), (24, 32), np.uint8))
    return domains


def test_labels_come_in_by_the_commands_of_the_page(places, capsys):
    lines = [command.words[1:] for command in commands(PAGE) if '--config' in command.words]
    assert [line[0] for line in lines] == ['import-labels'] * len(places)
    for line in lines:
        assert main(line) == 0
    capsys.readouterr()
    assert main(['data', 'check', 'places.yaml']) == 0
    out = capsys.readouterr().out
    assert 'problems' not in out and 'warnings' not in out
    for name, section in places.items():
        assert f'## {name} (folder, {len(section["classes"])} classes)' in out
    assert out.count('| labelled | 2 | ') == out.count('| validation | 8 | ') == len(places)


def test_seven_commands_lead_from_the_clone_to_the_node():
    lines = [line for text in blocks(PAGE, 'sh') for line in text.splitlines()]
    assert lines[0].startswith('git clone ')
    assert lines[6].startswith('segmentation_node ')
    model, = re.findall(r'model:=(\S+)', lines[6])
    assert lines[5] == f'univseg train places.yaml --run {model.rpartition("/")[0]}'
