"""YAML of all kinds: plain values, or one error that names the place; never more than it says."""

import os

import pytest
from univseg_core.files.limits import LimitError
from univseg_core.files.yaml_text import DEEPEST, parse_yaml, read_yaml, YamlError
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError, MOST_PROBLEMS

TIMES = 10
FOLDERS = '{classes: [a, b], train: {images: ., labels: .}, validation: {images: ., labels: .}}'


def aliases(levels):
    """Return lists of ten, each ten times the last one."""
    return 'a0: &a0 [x]\n' + ''.join(
        f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * TIMES)}]\n' for i in range(1, levels + 1))


def merged(levels):
    return 'a0: &a0 {k: 1}\n' + ''.join(
        f'a{i}: &a{i} {{<<: [{", ".join([f"*a{i - 1}"] * TIMES)}]}}\n'
        for i in range(1, levels + 1))


@pytest.mark.parametrize(('text', 'expected'), [
    ('', None), ('a: 1', {'a': 1}), ('\ufeffa: 1', {'a': 1}), ('a: 1\r\nb: [x]\r\n', {
        'a': 1, 'b': ['x']}),
    ('a: &x [1, 2]\nb: *x', {'a': [1, 2], 'b': [1, 2]}),
    ('a: &x {k: 1}\nb: {<<: *x, l: 2}', {'a': {'k': 1}, 'b': {'k': 1, 'l': 2}}),
    ('[' * DEEPEST + ']' * DEEPEST, None),
    ('9' * 300, int('9' * 300)), ('0x' + 'f' * 249, 16**249 - 1), ('.inf', float('inf')),
])
def test_plain_values(text, expected):
    value = parse_yaml(text)
    if text.startswith('['):
        assert str(value) == text
    else:
        assert value == expected


@pytest.mark.parametrize(('text', 'message'), [
    ('a: 1\na: 2', "the key 'a' is there twice.*line 2"),
    ('a: 2024-02-30', "'2024-02-30' is no timestamp.*line 1, column 4"),
    ('a: !!timestamp x', "'x' is no timestamp"),
    ('a: 0x_', "'0x_' is no int"), ('a: !!int x', "'x' is no int"),
    ('a: !!float x', "'x' is no float"), ('a: !!bool x', "'x' is no bool"),
    ('a: !!set x', 'expected a mapping'), ('a: !!binary x', 'base64'),
    ('a: !!python/object/apply:os.getcwd []', 'could not determine a constructor'),
    ('9' * 301, 'a number of more than 300 digits'),
    ('9' * 5000, 'a number of 5000 characters'), ('0x' + 'f' * 2000, 'a number of 2002'),
    ('1' + ':59' * 100_000, 'a number of 300001 characters'),
    ('[' * (DEEPEST + 1) + ']' * (DEEPEST + 1), f'values more than {DEEPEST} deep'),
    ('[' + 'a,' * 200_000 + ']', 'more than 200000 values.*column 4'),
    (f'{{{2**61}: 1}}', 'a number of 19 characters as a key'),
    ('[' * 100_000, 'nesting depth|deep in each other'), ('- ' * 3000 + 'x', 'depth|deep'),
    ('&a [*a]', 'a value that holds itself'), ('&a {k: [*a]}', 'a value that holds itself'),
    (aliases(6), 'it stands for 211111 values; expected 200000 at most'),
    (aliases(60), 'it stands for'), (merged(60), 'it stands for'),
    ('a: \ud800', 'surrogates'), ('\0', 'control characters'), ('[1', "expected ',' or ']'"),
])
def test_what_is_no_plain_value_is_told_with_its_place(text, message):
    with pytest.raises(YamlError, match=f'(?s){message}') as error:
        parse_yaml(text)
    assert len(str(error.value)) < 1100


def test_a_file_is_not_read_beyond_the_limit(tmp_path, monkeypatch):
    path = tmp_path / 'a.yaml'
    path.write_bytes(b'\xef\xbb\xbfa: 1')
    monkeypatch.setenv('UNIVSEG_MAX_TEXT', '7')
    assert read_yaml(path) == {'a': 1}
    os.truncate(path, 2**40)
    with pytest.raises(YamlError, match='more than 7 bytes, which UNIVSEG_MAX_TEXT changes'):
        read_yaml(path)


def test_a_limit_that_is_none_is_no_fault_of_the_file(tmp_path, monkeypatch):
    (tmp_path / 'a.yaml').touch()
    monkeypatch.setenv('UNIVSEG_MAX_TEXT', '4M')
    with pytest.raises(LimitError, match=r'^UNIVSEG_MAX_TEXT=4M: expected a whole number'):
        load_config(tmp_path / 'a.yaml')


def error_of(tmp_path, text, overrides=()):
    path = tmp_path / 'my.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return str(error.value)


@pytest.mark.parametrize(('domain', 'message'), [
    ('{classes: ~nosuchuser/x}', 'domains.d.classes: ~nosuchuser/x: '),
    ('{train: {images: ~nosuchuser/x, labels: .}}', 'domains.d.train.images: ~nosuchuser/x: '),
    ('{train: {images: %s, labels: .}}' % ('x' * 5000), 'File name too long'),
    ('{unlabelled: [%s]}' % ('x' * 5000), 'File name too long'),
    ('{unlabelled: ["%s:/front"]}' % ('x' * 5000), 'File name too long'),
    ('{classes: /dev/zero}', 'cannot read /dev/zero: not a file'),
    ('{classes: %s}' % ('x' * 5000), 'File name too long'),
])
def test_paths_that_cannot_be_looked_at(tmp_path, domain, message):
    text = error_of(tmp_path, f'domains: {{d: {domain}}}')
    assert message in text
    assert len(text) < 3000


def test_class_names_with_a_byte_order_mark(tmp_path):
    (tmp_path / 'names.txt').write_bytes(b'\xef\xbb\xbfroad\r\ncar\r\n')
    (tmp_path / 'my.yaml').write_text(
        f'domains: {{d: {FOLDERS.replace("[a, b]", str(tmp_path / "names.txt"))}}}')
    assert load_config(tmp_path / 'my.yaml').domain('d').classes == ('road', 'car')


@pytest.mark.parametrize('value', [
    '[' + 'x, ' * 5000 + ']', '"' + 'x' * 10**6 + '"',
    '{' + ', '.join(f'k{i}: 1' for i in range(5000)) + '}'])
def test_an_error_quotes_no_more_than_can_be_read(tmp_path, value):
    text = error_of(tmp_path, f'domains: {{d: {FOLDERS}}}\ntraining: {{steps: {value}}}')
    assert 'training.steps: ' in text
    assert len(text) < 1500


def test_the_first_of_many_problems_are_told(tmp_path):
    keys = ''.join(f'{"k" * 3000}{i}: 1\n' for i in range(100))
    text = error_of(tmp_path, f'domains: {{d: {FOLDERS}}}\n{keys}')
    assert text.count('unknown key') <= MOST_PROBLEMS
    assert len(text) < 11_000


def test_an_override_of_a_date_that_is_none(tmp_path):
    text = error_of(tmp_path, f'domains: {{d: {FOLDERS}}}', ['training.steps=2024-02-30'])
    assert "'2024-02-30' is not a YAML value" in text


def test_a_list_of_very_many_class_names_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'names.txt').write_text('a\n' * 100_000)
    (tmp_path / 'my.yaml').write_text(f"domains: {{d: {FOLDERS.replace('[a, b]', 'names.txt')}}}")
    with pytest.raises(ConfigError, match=r'classes: 100000 class names, more than a label map'):
        load_config(tmp_path / 'my.yaml')
