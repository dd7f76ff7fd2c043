"""Configurations: those that ship, and every way in which one can be wrong."""

from copy import deepcopy
from pathlib import Path
import re
from typing import get_args

from pydantic import TypeAdapter
import pytest
from univseg_core.settings.config import dump_config, load_config, RunConfig
from univseg_core.settings.file import (
    checked,
    ConfigError,
    override_setting,
    section_of,
    SHIPPED,
)
from univseg_core.settings.kinds import Folder
from univseg_core.training.run_settings import differing_settings
import yaml

SHIPPED_RUNS = sorted(f'train/{file.name}' for file in (SHIPPED / 'train').iterdir())


def load_changed(values, write_config, change):
    """Load the tiny configuration after `change` has been applied to its values."""
    change(values)
    return load_config(write_config(values))


def assert_refused(values, write_config, change, *messages):
    """Check that a changed configuration is refused, with all of these in the message."""
    with pytest.raises(ConfigError) as error:
        load_changed(values, write_config, change)
    for message in ('tiny.yaml', *messages):
        assert message in str(error.value)


def make_shipped_tree(name, root):
    """Make the folders and class lists that a configuration names below UNIVSEG_DATA."""
    text = (SHIPPED / name).read_text(encoding='utf-8')
    for path in re.findall(r'\$\{UNIVSEG_DATA\}/([\w/.]+)', text):
        if path.endswith('.txt'):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text('road\n car \n\n')
        else:
            (root / path).mkdir(parents=True, exist_ok=True)


def test_a_shipped_configuration_is_found_by_name_and_fits_its_data(tmp_path, monkeypatch):
    name = 'train/camvid_nyuv2.yaml'  # that of the scenes is tested with them
    monkeypatch.setenv('UNIVSEG_DATA', str(tmp_path))
    make_shipped_tree(name, tmp_path)
    config = load_config(name)
    assert list(config.domains) == ['outdoor', 'indoor']
    assert config.domain('outdoor').classes == ('road', 'car')
    assert config.domains['indoor'].train.images.is_relative_to(tmp_path)


@pytest.mark.parametrize('name', SHIPPED_RUNS)
def test_a_shipped_configuration_says_that_its_variable_is_not_set(name, monkeypatch):
    variables = re.findall(r'\$\{(\w+)\}', (SHIPPED / name).read_text(encoding='utf-8'))
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match=r'domains\.\w+\.(root|train\.images): .*'
                                          f'{variables[0]} is not set'):
        load_config(name)


def test_a_name_that_does_not_ship_gets_the_list_of_those_that_do():
    with pytest.raises(ConfigError, match=r'none\.yaml: no such file.*camvid_nyuv2\.yaml'):
        load_config('train/none.yaml')


def test_defaults(values, write_config):
    path = write_config({'domains': values['domains']})
    config = load_config(path)
    assert (config.objective.alpha, config.objective.beta) == (0, 0)
    assert (config.objective.consistency, config.objective.class_balance) == (1, 0.5)
    assert (config.model.encoder, config.model.width, config.model.embedding_dim) == (
        'efficientnet_lite0', 1, 128)
    assert config.domains['outdoor'].labelled_also_unlabelled


def test_a_configuration_survives_being_dumped(values, write_config, tmp_path):
    values['domains']['indoor']['palette'] = [[1, 2, 3], [250, 0, 7]]
    values['data']['scale'] = [0.5, 2]
    config = load_config(write_config(values), ['objective.alpha=0.123456789012345'])
    again = tmp_path / 'again.yaml'
    again.write_text(dump_config(config), encoding='utf-8')
    assert load_config(again) == config
    assert dump_config(load_config(again)) == dump_config(config)


def test_a_dumped_configuration_spells_out_every_default(values, write_config):
    dumped = yaml.safe_load(dump_config(load_config(write_config({'domains': values['domains']}))))
    assert dumped['training']['steps'] == 5000
    assert dumped['domains']['outdoor']['labelled_also_unlabelled'] is True


def test_overrides_change_single_keys(values, write_config):
    config = load_config(write_config(values), [
        'training.steps=7', 'objective.alpha=1e-2', 'data.scale=[0.9, 1.1]', 'data.flip=false',
        'domains.outdoor.labelled=null', 'training.weight_decay=0'])
    assert config.training.steps == 7
    assert config.objective.alpha == 0.01
    assert config.data.scale == (0.9, 1.1)
    assert config.data.flip is False
    assert config.domains['outdoor'].labelled is None
    assert config.domains['indoor'].labelled == 6
    assert config.training.weight_decay == 0


@pytest.mark.parametrize(('override', 'message'), [
    ('training.steps', "'training.steps': expected KEY=VALUE"),
    ('=3', "'=3': expected KEY=VALUE"),
    ('training.steps.x=3', 'training.steps'),
    ('model.encoder.name=3', 'encoder has no keys below it'),
    ('training.steps=[1', "'[1' is not a YAML value"),
    ('training.step=3', 'training.step: unknown key; did you mean steps?'),
    ('traning.steps=3', 'traning: unknown key; did you mean training?'),
    ('training.steps=few', "got 'few'"),
])
def test_bad_overrides_are_quoted(values, write_config, override, message):
    with pytest.raises(ConfigError) as error:
        load_config(write_config(values), [override])
    assert message in str(error.value)


@pytest.mark.parametrize(('section', 'key', 'value', 'messages'), [
    ('training', 'step', 3, ['training.step: unknown key; did you mean steps?', 'seed']),
    ('training', 'zzz', 3, ['training.zzz: unknown key (valid keys: steps']),
    ('training', 'steps', 'many', ['training.steps: ', "got 'many'"]),
    ('training', 'steps', 0, ['training.steps: ', ' 1, got 0']),
    ('training', 'learning_rate', -1, ['training.learning_rate: ', ' 0, got -1']),
    ('objective', 'alpha', float('nan'), ['objective.alpha: ', 'got nan']),
    ('training', 'precision', 'fp8', ['training.precision: ', 'bf16-mixed', "got 'fp8'"]),
    ('model', 'encoder', 'resnet', ['model.encoder: ', 'drn_d_22', "encoder 'resnet'"]),
    ('model', 'width', 0.01, ['model.width: ', '0.0625', 'got 0.01']),
    ('data', 'scale', [2, 1], ['data: scale: expected 0.1 ≤ lowest ≤ highest ≤ 10']),
    ('data', 'scale', [1], ['data.scale.1: this key is missing']),
])
def test_a_wrong_setting_is_named_with_what_was_expected(values, write_config, section, key,
                                                         value, messages):
    assert_refused(values, write_config, lambda v: v[section].update({key: value}), *messages)


@pytest.mark.parametrize(('key', 'value', 'messages'), [
    ('clases', [], ['domains.outdoor.clases: unknown key; did you mean classes?']),
    ('classes', [], ['domain outdoor: expected 1 to 255 classes, got 0']),
    ('classes', ['a', 'a'], ["domain outdoor: class names repeat: ['a']"]),
    ('classes', 'none.txt', ['domains.outdoor.classes: cannot read none.txt: No such file']),
    ('palette', [[0, 0, 0]], ['domain outdoor: 3 classes but 1 palette colours']),
    ('labelled', 0, ['domains.outdoor.labelled: ', ' 1, got 0']),
    ('unlabelled', ['/nowhere/at/all'], ['domains.outdoor.unlabelled.0: no such folder: '
                                         '/nowhere/at/all']),
    ('unlabelled', '/tmp', ['domains.outdoor.unlabelled: ', "got '/tmp'"]),
])
def test_a_wrong_domain_setting_is_named(values, write_config, key, value, messages):
    assert_refused(values, write_config, lambda v: v['domains']['outdoor'].update({key: value}),
                   *messages)


@pytest.mark.parametrize(('classes', 'key'), [
    (5, 'domains.outdoor.classes: '),
    (['a', 1], 'domains.outdoor.classes.1: '),
])
def test_wrong_classes_are_named_by_their_key_alone(values, write_config, classes, key):
    """Neither by the library's names of types nor by a second line."""
    values['domains']['outdoor']['classes'] = classes
    with pytest.raises(ConfigError) as error:
        load_config(write_config(values))
    (line,) = str(error.value).splitlines()[1:]
    assert line.startswith(f'  {key}')


@pytest.mark.parametrize('key', ['classes', 'train', 'validation'])
def test_a_missing_key_is_named(values, write_config, key):
    assert_refused(values, write_config, lambda v: v['domains']['indoor'].pop(key),
                   f'domains.indoor.{key}: this key is missing')


def test_a_missing_folder_is_named(values, write_config):
    folder = values['domains']['indoor']['train']['labels'] + 's'
    assert_refused(values, write_config,
                   lambda v: v['domains']['indoor']['train'].update(labels=folder),
                   f'domains.indoor.train.labels: no such folder: {folder}')


def test_folders_that_labels_are_yet_to_be_brought_into_need_not_be_there(values, write_config):
    for key in ('train', 'validation'):
        values['domains']['indoor'][key] = {'images': 'to_come/image', 'labels': 'to_come/label'}
    values['domains']['indoor']['unlabelled'] = ['to_come/frames']
    path = write_config(values)
    config = load_config(path, folders_needed=False)
    assert config.domains['indoor'].train.images == Path('to_come/image').resolve()
    assert config.domains['indoor'].unlabelled == [Path('to_come/frames').resolve()]
    with pytest.raises(ConfigError, match='no such folder: to_come/label'):
        load_config(path)


@pytest.mark.parametrize('name', ['Outdoor', 'out-door', '2nd'])
def test_a_domain_name_that_cannot_be_a_topic_is_refused(values, write_config, name):
    assert_refused(values, write_config,
                   lambda v: v['domains'].update({name: v['domains'].pop('outdoor')}),
                   f"domain name '{name}': expected lower-case letters")


def test_no_domains_are_refused(values, write_config):
    assert_refused(values, write_config, lambda v: v.update(domains={}), 'domains: ', ' 1')


def test_all_problems_are_listed_at_once(values, write_config):
    def change(v):
        v['training'].update(steps='many', sead=1)
        v['model']['width'] = 9
        v['domains']['indoor'].pop('classes')
        v['domains']['outdoor']['train']['images'] = '/nowhere'
        v['objektive'] = {}

    with pytest.raises(ConfigError) as error:
        load_changed(values, write_config, change)
    keys = [line.split(':')[0].strip() for line in str(error.value).splitlines()[1:]]
    assert sorted(keys) == ['domains.indoor.classes', 'domains.outdoor.train.images',
                            'model.width', 'objektive', 'training.sead', 'training.steps']


@pytest.mark.parametrize('variable', ['$WORLDS', '${WORLDS}'])
def test_environment_variables_are_put_into_paths(values, write_config, worlds, monkeypatch,
                                                  variable):
    monkeypatch.setenv('WORLDS', str(worlds))
    values['domains']['outdoor']['train']['images'] = f'{variable}/outdoor/train/image'
    section = load_config(write_config(values)).domains['outdoor']
    assert section.train.images == worlds / 'outdoor' / 'train' / 'image'


def test_an_environment_variable_that_is_not_set_is_named(values, write_config, monkeypatch):
    monkeypatch.delenv('WORLDS', raising=False)
    assert_refused(
        values, write_config,
        lambda v: v['domains']['outdoor']['train'].update(images='${WORLDS}/outdoor'),
        'domains.outdoor.train.images: the environment variable WORLDS is not set')


def test_home_is_put_into_paths(values, write_config, worlds, monkeypatch):
    monkeypatch.setenv('HOME', str(worlds))
    values['domains']['outdoor']['train']['images'] = '~/outdoor/train/image'
    section = load_config(write_config(values)).domains['outdoor']
    assert section.train.images == worlds / 'outdoor' / 'train' / 'image'


def test_classes_may_come_from_a_file(values, write_config, tmp_path):
    (tmp_path / 'classes.txt').write_text('straße\n car \n\n', encoding='utf-8')
    values['domains']['outdoor']['classes'] = str(tmp_path / 'classes.txt')
    assert load_config(write_config(values)).domain('outdoor').classes == ('straße', 'car')


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'expected keys and values'),
    ('- a\n- b\n', 'expected keys and values'),
    ('domains: [', 'not valid YAML'),
    ('domains: {a: !!python/name:os.system }', 'not valid YAML'),
])
def test_a_file_that_holds_no_configuration_is_named(tmp_path, text, message):
    path = tmp_path / 'bad.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf'bad\.yaml: {message}'):
        load_config(path)


def test_a_file_that_is_not_text_is_named(tmp_path):
    path = tmp_path / 'bad.yaml'
    path.write_bytes(b'\xff\x00domains')
    with pytest.raises(ConfigError, match=r'bad\.yaml: not valid YAML'):
        load_config(path)


def test_a_configuration_does_not_change_after_reading(values, write_config):
    config = load_config(write_config(values))
    with pytest.raises(ValueError, match='steps'):
        config.training.steps = 1
    assert config.training.steps == 30


@pytest.mark.parametrize(('key', 'value'), [('steps', True), ('steps', '100'), ('steps', 1.5),
                                            ('seed', 2**64)])
def test_numbers_of_another_kind_are_refused(values, write_config, key, value):
    assert_refused(values, write_config, lambda v: v['training'].update({key: value}),
                   f'training.{key}: ')


def numbers_of(section, prefix=''):
    """Yield the dotted key of each setting that is a number."""
    for name, field in section.model_fields.items():
        if below := section_of(field.annotation):
            yield from numbers_of(below, f'{prefix}{name}.')
        elif {int, float} & {field.annotation, *(get_args(part)[0] if get_args(part) else part
                                                 for part in get_args(field.annotation))}:
            yield f'{prefix}{name}'


NUMBERS = [*numbers_of(RunConfig), 'domains.outdoor.labelled',
           'domains.outdoor.validation_from_train']


def test_the_settings_that_are_numbers_are_found():
    assert {'model.width', 'data.image_size', 'objective.alpha', 'label_embeddings.theta',
            'training.steps', 'training.workers'} < set(NUMBERS)
    assert len(NUMBERS) == 34


@pytest.mark.parametrize('key', NUMBERS)
def test_numbers_that_nobody_means_are_refused_by_the_settings_name(values, key):
    for value in ('1e12', '1000000000000', '-1', '.nan', '.inf', '1e400', '"1_000"', 'true',
                  'few', '"٣"', '[1]', f'1{"0" * 299}'):
        changed = deepcopy(values)
        with pytest.raises(ConfigError) as error:
            override_setting(changed, f'{key}={value}')
            checked(RunConfig, changed, Path('tiny.yaml'))
        assert key in str(error.value), value


@pytest.mark.parametrize(('text', 'value'), [
    ('1e-3', 0.001), ('0.001', 0.001), ('.001', 0.001), ('1', 1), ('2.', 2), ('"5e-1"', 0.5)])
def test_numbers_may_be_written_in_any_usual_way(values, write_config, text, value):
    config = load_config(write_config(values), [f'training.learning_rate={text}'])
    assert config.training.learning_rate == value


def test_an_embedding_wider_than_the_features_is_told_before_anything_runs(values, write_config):
    assert_refused(values, write_config,
                   lambda v: v['model'].update(width=0.5, embedding_dim=128),
                   'model.embedding_dim: expected at most 64')


def test_a_palette_of_another_length_is_told_with_its_domain(values, write_config):
    assert_refused(values, write_config,
                   lambda v: v['domains']['indoor'].update(palette=[[1, 2, 3]]),
                   'domains.indoor: ', 'palette')


def test_a_variable_may_hold_a_dollar(tmp_path, monkeypatch):
    folder = tmp_path / 'costs $much'
    folder.mkdir()
    monkeypatch.setenv('DOLLARS', str(folder))
    assert TypeAdapter(Folder).validate_python('${DOLLARS}') == folder


def test_a_setting_that_names_nothing_is_none_to_a_run_that_began_without_it():
    old, new = {'steps': 5, 'rate': 0}, {'steps': 5, 'rate': 0, 'also': [], 'painted': None}
    assert differing_settings(old, new) == differing_settings(new, old) == []
    assert differing_settings(old, new | {'painted': 'a'}) == ['painted: nothing there, a now']
    assert differing_settings(old, {'steps': 5}) == ['rate: 0 there, nothing now']
    old, new = {'also': [{'labels': 'a'}]}, {'also': [{'labels': 'a', 'painted': None}]}
    assert differing_settings(old, new) == differing_settings(new, old) == []
    assert differing_settings(old, {'also': [{'labels': 'b'}]})


def test_an_answer_that_leaves_label_maps_as_they_were_is_none_to_a_run_without_it():
    def config(**answers):
        folder = {'labels': 'a', **answers}
        return {'domains': {'yard': {'classes': ['grass', 'wall'], 'train': folder,
                                     'train_also': [folder]}}}
    for answers in ({'background': 'grass'}, {'painted': 'void'}):
        assert differing_settings(config(), config(**answers)) == []
    for answers in ({'background': 'wall'}, {'background': 'void'}, {'painted': 'grass'}):
        differences = differing_settings(config(), config(**answers))
        assert {line.split(':')[0] for line in differences} == {
            f'domains.yard.train.{next(iter(answers))}', 'domains.yard.train_also'}
