"""Files that once cost too much or ended in a traceback; and the search that finds such files."""

from importlib import import_module
from pathlib import Path

import pytest

CORPUS = Path(__file__).parent / 'corpus'
FILES = sorted(path for path in CORPUS.glob('*/*'))


@pytest.fixture(scope='module')
def fuzz():
    """Return the benchmark of that name as a module."""
    return import_module('fuzz')


@pytest.mark.parametrize('path', FILES, ids=lambda path: f'{path.parent.name}-{path.name}')
def test_a_file_that_was_found_costs_little_and_ends_as_documented(fuzz, path, tmp_path,
                                                                   monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzz.attempt(fuzz.KINDS[path.parent.name], path.read_bytes(), tmp_path)


def test_each_kind_has_files(fuzz):
    assert {path.parent.name for path in FILES} <= set(fuzz.KINDS)
    assert len(FILES) > 20


def test_the_seeds_of_the_search_are_sound(fuzz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, kind in fuzz.KINDS.items():
        for seed in kind.seeds(tmp_path)[:1]:
            path = tmp_path / f'{name}{kind.suffix}'
            path.write_bytes(seed)
            kind.read(path)


def test_a_changed_description_of_an_exported_model_is_read_with_its_checksum(fuzz, tmp_path):
    kind = fuzz.KINDS['exported']
    sound, = kind.seeds(tmp_path)
    changed = sound.replace(b'"image_size": 240', b'"image_size": 999')
    path = tmp_path / 'changed.onnx'
    path.write_bytes(changed)
    with pytest.raises(kind.errors(), match='its checksum differs'):
        kind.read(path)
    path.write_bytes(kind.repaired(changed))
    kind.read(path)


def test_a_message_that_nobody_can_read_is_a_fault(fuzz, tmp_path):
    def read(path):
        raise UnicodeError('x' * int(path.read_bytes()))

    kind = fuzz.Kind('.x', list, read, lambda: (UnicodeError,))
    fuzz.attempt(kind, b'10000', tmp_path)
    with pytest.raises(fuzz.FindingError, match='a message of 20000 characters'):
        fuzz.attempt(kind, b'20000', tmp_path)


def test_the_search_finds_what_it_is_to_find_once(fuzz, tmp_path):
    pytest.importorskip('hypothesis')

    def read(path):
        if 0 in path.read_bytes():
            raise ZeroDivisionError

    kind, known = fuzz.Kind('.x', list, read, lambda: (UnicodeError,)), set()
    (place, data), = fuzz.search('label', kind, [b'\1'], tmp_path, 5, known)
    assert place.startswith('ZeroDivisionError test_fuzz_corpus.py:')
    assert 0 in data
    assert list(fuzz.search('label', kind, [b'\1'], tmp_path, 5, known)) == []
