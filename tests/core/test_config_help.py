"""What is told of a configuration's keys: all of them, and as the sections have them."""

import json
import re
from typing import get_args, get_origin

import pytest
from univseg_core.cli import main
from univseg_core.settings import config as whole
from univseg_core.settings import domains, learning, objective
from univseg_core.settings.config import dump_config, load_config, RunConfig
from univseg_core.settings.explanation import all_keys, annotated_yaml, explain
from univseg_core.settings.file import ConfigError, Section, section_of
import yaml

KEYS = {key.name: key for key in all_keys()}


def is_section(kind):
    return isinstance(kind, type) and issubclass(kind, Section)


SECTIONS = [kind for module in (whole, domains, learning, objective)
            for kind in vars(module).values() if is_section(kind) and kind.__module__ ==
            module.__name__ and kind is not objective.LossWeights]  # which another begins with


def dumped_keys(values, prefix=''):
    """Return the dotted keys of a dumped configuration, a domain's name written as NAME."""
    names = set()
    for key, value in values.items():
        name = f'{prefix}{"NAME" if prefix == "domains." else key}'
        names |= dumped_keys(value, f'{name}.') if isinstance(value, dict) else {name}
    return names


@pytest.fixture
def config(values, write_config):
    values['domains']['indoor']['palette'] = [[1, 2, 3], [250, 0, 7]]
    return load_config(write_config(values), ['training.weight_decay=1e-05',
                                              'data.scale=[0.5, 2]'])


@pytest.mark.parametrize('section', SECTIONS)
def test_every_key_of_every_section_is_described(section):
    for name, field in section.model_fields.items():
        kind = field.annotation
        assert field.description or (is_section(kind) and kind.__doc__), name
        if not section_of(kind) and get_origin(kind) is not dict:
            assert field.description in {key.meaning for key in KEYS.values()}


def test_every_section_is_part_of_a_run():
    reached, todo = set(), [RunConfig]
    while todo:
        reached.add(section := todo.pop())
        for field in section.model_fields.values():
            kinds = (field.annotation, *get_args(field.annotation))
            todo += filter(is_section, kinds)
    assert reached == set(SECTIONS)


def test_the_keys_are_those_of_a_dumped_configuration(config):
    assert set(KEYS) == dumped_keys(config.model_dump(mode='json'))


def test_the_table_has_a_line_for_each_key():
    lines = explain().splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(' ')] == ['key', *KEYS]
    start = lines[0].index('values')
    assert {line[start - 2:start] for line in lines} == {'  '}
    assert max(map(len, lines)) <= 120
    for key in KEYS.values():
        assert key.values
        assert key.meaning


@pytest.mark.parametrize(('name', 'values', 'default'), [
    ('training.steps', 'int ≥ 1', '5000'),
    ('training.learning_rate', 'float > 0, ≤ 10', '0.003'),
    ('training.workers', 'int ≥ 0, ≤ 128, or null', 'null'),
    ('training.precision', '32-true, bf16-mixed, 16-mixed', '32-true'),
    ('training.seed', 'int ≥ 0, < 4294967296', '0'),
    ('data.scale', '[float, float]', '[0.75, 1.5]'),
    ('data.colour', 'float ≥ 0, < 1', '0.3'),
    ('data.flip', 'true, false', 'true'),
    ('model.width', 'float ≥ 0.0625, ≤ 4', '1.0'),
    ('label_embeddings.file', 'file, or null', 'null'),
    ('domains.NAME.train.images', 'folder', 'required'),
    ('domains.NAME.classes', 'list of texts, or null', 'null'),
    ('domains.NAME.dataset', 'folder, cityscapes, camvid, idd, sun_rgbd, nyuv2_13, nyuv2_40',
     'folder'),
    ('domains.NAME.root', 'folder, or null', 'null'),
    ('domains.NAME.palette', 'list of [int, int, int], or null', 'null'),
    ('domains.NAME.unlabelled', 'list of folders, bags or videos', '[]'),
    ('domains.NAME.labelled', 'int ≥ 1, or null', 'null'),
    ('label_embeddings.networks', '{text: file or folder of a run}, or null', 'null'),
])
def test_values_and_defaults_are_in_a_users_words(name, values, default):
    assert (KEYS[name].values, KEYS[name].default) == (values, default)


def test_a_key_is_explained():
    assert explain('training.steps') == (
        'training.steps\n  optimiser steps\n  values:  int ≥ 1\n  default: 5000')


def test_a_section_is_explained_with_what_is_below_it():
    text = explain('data')
    heads = [line for line in text.splitlines() if line and not line.startswith(' ')]
    assert heads == ['data', *(name for name in KEYS if name.startswith('data.'))]


@pytest.mark.parametrize('name', ['domains.NAME.train', 'domains.yard.train'])
def test_a_domains_keys_are_found_by_any_name(name):
    assert explain(name).startswith('domains.NAME.train\n  images to learn from')


@pytest.mark.parametrize(('name', 'hint'), [
    ('training.stepz', 'did you mean training.steps'),
    ('learning_rate', 'did you mean training.learning_rate?'),
    ('traning', 'did you mean training?'), ('stepz', 'did you mean training.steps?'),
    ('model.crop_size', 'did you mean data.crop_size?'),
    ('zzz', 'univseg config explain'), ('', 'univseg config explain')])
def test_an_unknown_key_gets_a_hint(name, hint):
    with pytest.raises(ConfigError, match=f'unknown key; .*{re.escape(hint)}'):
        explain(name)


def test_annotated_yaml_is_the_configuration(config, tmp_path):
    text = annotated_yaml(config)
    assert yaml.safe_load(text) == yaml.safe_load(dump_config(config))
    path = tmp_path / 'again.yaml'
    path.write_text(text, encoding='utf-8')
    assert load_config(path) == config


def test_annotated_yaml_explains_each_key_once(config):
    lines = [line.strip() for line in annotated_yaml(config).splitlines()]
    told = ' '.join(line[2:] for line in lines if line.startswith('# '))
    for key in KEYS.values():
        repeats = 2 if '.train.' in key.name or '.validation.' in key.name else 1
        assert told.count(f' {key.meaning} · {key.values}') == repeats


def test_annotated_yaml_tells_defaults_that_were_changed(config):
    text = annotated_yaml(config)
    assert '# optimiser steps · int ≥ 1 · default: 5000\n  steps: 30\n' in text
    assert '# whether to mirror half of the crops · true, false\n  flip: true\n' in text


def test_the_commands_print_them(config, values, write_config, capsys):
    path = write_config(values)
    assert main(['config', 'show', str(path), 'training.steps=7']) == 0
    assert yaml.safe_load(capsys.readouterr().out)['training']['steps'] == 7
    assert main(['config', 'explain']) == 0
    assert set(KEYS) <= set(capsys.readouterr().out.split())
    assert main(['config', 'explain', 'training.steps']) == 0
    assert capsys.readouterr().out.strip() == explain('training.steps')
    assert main(['config', 'explain', 'training.steps', '--json']) == 0
    (key,) = json.loads(capsys.readouterr().out)
    assert key == KEYS['training.steps']._asdict()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['explain', 'training.stepz'], 'training.stepz: unknown key; did you mean training.steps'),
    (['show', 'none.yaml'], 'none.yaml: no such file')])
def test_the_commands_tell_what_is_wrong(capsys, arguments, message):
    assert main(['config', *arguments]) == 1
    assert capsys.readouterr().err.startswith(f'univseg config: {message}')
