"""Engines are built once for each machine, and never used where they are not whole or not its."""

from collections import namedtuple
import errno
import json
import logging

import pytest
from univseg_core.errors import UnivsegError
from univseg_core.inference import engine_cache
from univseg_core.inference.engine_cache import engines_folder, MADE_FOR, with_kept_engines

MADE = {'GPU': 'Orin (8.7)', 'TensorRT': '10.3.0', 'model': 'ab12'}
ENGINE = b'an engine of some length'


class Runtime:
    """A runtime that builds an engine, or reads it where one lies in the folder, and counts."""

    def __init__(self):
        self.built = self.read = 0
        self.room = len(ENGINE)

    def __call__(self, folder):
        if folder is not None and (file := folder / 'graph.engine').exists():
            if file.read_bytes() != ENGINE:
                raise UnivsegError('could not deserialize engine from cache')
            self.read += 1
            return 'read'
        self.built += 1
        if folder is not None:  # a full disk is not told, as by TensorRT's own writing
            (folder / 'graph.engine').write_bytes(ENGINE[:self.room])
        return 'built'


@pytest.fixture
def folder(tmp_path):
    return engines_folder(tmp_path / 'yard.onnx')


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO)
    return lambda: '\n'.join(caplog.messages)


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob('*') if path.is_file()}


def test_they_lie_beside_the_model(folder, tmp_path):
    assert folder == tmp_path / 'yard.onnx.engines'


def test_engines_are_built_once(folder, said):
    runtime = Runtime()
    assert with_kept_engines(folder, MADE, 10, runtime) == 'read'
    assert (runtime.built, runtime.read) == (1, 1)  # read back before they are kept
    own, = folder.iterdir()
    assert sorted(path.name for path in own.iterdir()) == ['graph.engine', MADE_FOR]
    assert json.loads((own / MADE_FOR).read_text()) == {
        'made_for': MADE, 'files': {'graph.engine': len(ENGINE)}}
    before = tree(folder)
    assert with_kept_engines(folder, dict(reversed(MADE.items())), 10, runtime) == 'read'
    assert (runtime.built, runtime.read) == (1, 2)
    assert tree(folder) == before
    assert 'it may take minutes' in said()
    assert said().endswith(f'{own}: the engines that are kept here are used')


@pytest.mark.parametrize(('key', 'value'), [
    ('GPU', 'H200 (9.0)'), ('TensorRT', '11.2.1'), ('model', 'cd34')])
def test_engines_of_another_machine_stay_and_are_not_used(folder, said, key, value):
    runtime = Runtime()
    with_kept_engines(folder, MADE, 10, runtime)
    before, (first,) = tree(folder), folder.iterdir()
    with_kept_engines(folder, {**MADE, key: value}, 10, runtime)
    assert runtime.built == 2
    assert len(list(folder.iterdir())) == 2
    assert {**tree(folder), **before} == tree(folder)
    assert (f'{first}: engines are kept here for {key} {MADE[key]!r}, which is now {value!r}: '
            'they are not used, and stay') in said()
    with_kept_engines(folder, MADE, 10, runtime)  # back in the first machine
    assert runtime.built == 2


@pytest.mark.parametrize('room', [0, 5])
def test_engines_that_a_full_disk_cut_off_are_never_kept(folder, said, room):
    runtime = Runtime()
    runtime.room = room
    assert with_kept_engines(folder, MADE, 10, runtime) == 'built'
    assert runtime.built == 1
    assert list(folder.iterdir()) == []
    assert 'engines cannot be kept here, and are built at each start: ' in said()
    assert ('MB are free: could not deserialize' if room else 'an empty one') in said()
    runtime.room = len(ENGINE)
    assert with_kept_engines(folder, MADE, 10, runtime) == 'read'


def test_no_engine_is_begun_where_the_disk_has_no_room(folder, said, monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(engine_cache.shutil, 'disk_usage', lambda path: usage(0, 0, 3 << 20))
    runtime = Runtime()
    assert with_kept_engines(folder, MADE, 5 << 20, runtime) == 'built'
    assert list(folder.iterdir()) == []
    assert '3 MB are free, and about 5 MB are needed' in said()
    assert with_kept_engines(folder, MADE, 3 << 20, runtime) == 'read'


def test_a_disk_that_others_fill_while_an_engine_is_built(folder, said, monkeypatch):
    """The runtime itself fails, and not before minutes: it is tried without keeping anything."""
    usage, free = namedtuple('usage', 'total used free'), [9 << 20]
    monkeypatch.setattr(engine_cache.shutil, 'disk_usage', lambda path: usage(0, 0, free[0]))

    def runtime(folder):
        if folder is None:
            return 'built'
        (folder / 'graph.engine').write_bytes(ENGINE[:5])
        free[0] = 0
        raise UnivsegError('could not serialize engine')

    assert with_kept_engines(folder, MADE, 5 << 20, runtime) == 'built'
    assert list(folder.iterdir()) == []
    assert '0 MB are free, and about 5 MB are needed: could not serialize engine' in said()


def test_a_disk_that_is_full_when_the_engine_is_there(folder, said, monkeypatch):
    def full(path, text):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(engine_cache, 'write_text', full)
    assert with_kept_engines(folder, MADE, 10, Runtime()) == 'read'
    assert list(folder.iterdir()) == []
    assert 'built at each start: [Errno 28] No space left on device' in said()


def test_a_folder_that_cannot_be_made_is_told(folder, said):
    folder.write_text('a file of that name')
    runtime = Runtime()
    assert with_kept_engines(folder, MADE, 10, runtime) == 'built'
    assert f'{folder}: engines cannot be kept here' in said()
    assert folder.read_text() == 'a file of that name'


def shorter(own):
    (own / 'graph.engine').write_bytes(ENGINE[:4])


def gone(own):
    (own / 'graph.engine').unlink()


def changed(own):
    (own / 'graph.engine').write_bytes(ENGINE.upper())


def untold(own):
    (own / MADE_FOR).unlink()


def garbage(own):
    (own / MADE_FOR).write_text('{"files": 3, "made_for": []')


def of_another(own):
    told = json.loads((own / MADE_FOR).read_text())
    told['made_for']['GPU'] = 'H200 (9.0)'
    (own / MADE_FOR).write_text(json.dumps(told))


@pytest.mark.parametrize('damage', [shorter, gone, changed, untold, garbage, of_another])
def test_what_is_damaged_is_not_used_and_replaced(folder, said, damage):
    runtime = Runtime()
    with_kept_engines(folder, MADE, 10, runtime)
    own, = folder.iterdir()
    whole = tree(folder)
    damage(own)
    assert with_kept_engines(folder, MADE, 10, runtime) == 'read'
    assert (runtime.built, runtime.read) == (2, 2)  # each was read back, and nothing else
    assert f'{own}: what is kept here are no engines of this model for this machine' in said()
    assert tree(folder) == whole
    assert with_kept_engines(folder, MADE, 10, runtime) == 'read'
    assert runtime.built == 2


def test_engines_that_cannot_be_read_stay_where_no_others_can_be_built(folder):
    """They may be whole: a GPU whose memory is full reads none, either."""
    with_kept_engines(folder, MADE, 10, Runtime())
    before = tree(folder)

    def full(folder):
        raise UnivsegError('CUDA out of memory')

    with pytest.raises(UnivsegError, match='CUDA out of memory'):
        with_kept_engines(folder, MADE, 10, full)
    assert tree(folder) == before


def test_damaged_engines_stay_where_new_ones_cannot_be_kept(folder, said):
    runtime = Runtime()
    with_kept_engines(folder, MADE, 10, runtime)
    shorter(next(folder.iterdir()))
    before = tree(folder)
    runtime.room = 5
    assert with_kept_engines(folder, MADE, 10, runtime) == 'built'
    assert tree(folder) == before
    assert 'engines cannot be kept here, and are built at each start: ' in said()


def test_a_network_that_cannot_be_run_leaves_nothing(folder):
    def broken(folder):
        raise UnivsegError('no such operator')

    with pytest.raises(UnivsegError, match='no such operator'):
        with_kept_engines(folder, MADE, 10, broken)
    assert list(folder.iterdir()) == []


def test_a_kill_while_building_leaves_nothing_that_is_used(folder):
    """What a killed process left has another name, and goes when the next builds."""
    runtime = Runtime()
    with_kept_engines(folder, MADE, 10, runtime)
    own, = folder.iterdir()
    own.rename(folder / f'.{own.name}.unfinished-x')
    assert with_kept_engines(folder, MADE, 10, runtime) == 'read'
    assert runtime.built == 2
    assert list(folder.iterdir()) == [own]
