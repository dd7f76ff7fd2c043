"""The configurations that ship: each loads where its data is, and is what its name says."""

from pathlib import Path
import re

import pytest
from univseg_core.settings.config import load_config
from univseg_core.settings.file import SHIPPED

NAMES = sorted(f'train/{file.name}' for file in (SHIPPED / 'train').iterdir())


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Return a function that loads a configuration, with the folders that it names made."""
    def load(name):
        text = (SHIPPED / name).read_text(encoding='utf-8')
        for variable, path in re.findall(r'\$\{(\w+)\}([\w/.]*)', text):
            monkeypatch.setenv(variable, str(tmp_path / variable))
            file = Path(f'{tmp_path / variable}{path}')
            if path.endswith('.txt'):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text('\n'.join(f'class {i}' for i in range(11)))
            else:
                file.mkdir(parents=True, exist_ok=True)
        return load_config(name)
    return load


@pytest.mark.parametrize('name', NAMES)
def test_it_loads(shipped, name):
    config = shipped(name)
    for domain in config.domains:
        assert (domain in {'outdoor', 'indoor'} or domain in name
                or (domain, name) == ('sun_rgbd', 'train/cityscapes_sun_paper.yaml'))
        config.domain(domain)


@pytest.mark.parametrize('name', NAMES)
def test_its_head_tells_the_command(name):
    head = (SHIPPED / name).read_text(encoding='utf-8').split('\ndomains:')[0]
    assert all(line.startswith('#') for line in head.splitlines())
    assert f'univseg train {name} --run runs/' in head


def test_the_paper_recipe_is_the_papers(shipped):
    config = shipped('train/camvid_nyuv2_paper.yaml')
    training, data, objective = config.training, config.data, config.objective
    assert (config.model.encoder, config.model.width) == ('drn_d_22', 1)
    assert (training.optimizer, training.learning_rate, training.momentum,
            training.weight_decay) == ('sgd', 0.001, 0.9, 1e-4)
    assert (training.schedule, training.power) == ('polynomial', 0.9)
    assert (data.image_size, data.crop_size, data.scale, data.flip, data.colour) == (
        None, 480, (1, 1), True, 0)
    assert (data.labelled_per_domain, data.unlabelled_per_domain) == (5, 5)
    assert (objective.alpha, objective.beta, objective.warmup_steps) == (1, 1, 0)
    assert (objective.consistency, objective.class_balance) == (0, 0)
    assert all(domain.labelled == 100 and domain.labelled_also_unlabelled
               for domain in config.domains.values())
