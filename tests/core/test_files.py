"""A file is either whole or as it was before."""

import errno

import pytest
from univseg_core.files import remove_leftovers, replacing, write_text


def test_a_file_is_written_and_folders_made(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'a.txt'
    write_text(path, 'α\n')
    assert path.read_bytes() == 'α\n'.encode()
    assert [p.name for p in path.parent.iterdir()] == ['a.txt']


def test_a_file_is_replaced_only_when_the_block_ends(tmp_path):
    path = tmp_path / 'a.bin'
    path.write_bytes(b'old')
    with replacing(path) as temporary:
        temporary.write_bytes(b'new')
        assert temporary.parent == tmp_path  # on the same disk: the name changes at once
        assert temporary.suffix == '.bin'
        assert path.read_bytes() == b'old'
    assert path.read_bytes() == b'new'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, 'No space left'), KeyboardInterrupt(),
                                   ValueError('bad')])
@pytest.mark.parametrize('old', [b'old', None])
def test_a_failed_block_leaves_all_as_it_was(tmp_path, error, old):
    path = tmp_path / 'a.bin'
    if old:
        path.write_bytes(old)
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_bytes(b'half')
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([old] if old else [])


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / 'usual').touch()
    write_text(tmp_path / 'ours', '')
    assert (tmp_path / 'ours').stat().st_mode == (tmp_path / 'usual').stat().st_mode


def test_a_path_that_is_a_folder_is_left_alone(tmp_path):
    (tmp_path / 'a').mkdir()
    with pytest.raises(OSError, match='directory'):
        write_text(tmp_path / 'a', 'text')
    assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    kept = [tmp_path / 'a.txt', tmp_path / '.hidden', tmp_path / 'below' / 'a.unfinished-b.txt']
    for path in kept:
        write_text(path, '')
    # What no block ends any more: a killed process.
    left = [replacing(tmp_path / name) for name in ('a.txt', 'none', 'below/of_another_run')]
    written = [block.__enter__() for block in left]
    assert all(path.exists() for path in written)
    kept.append(written[-1])
    remove_leftovers(tmp_path)
    assert sorted(path for path in tmp_path.rglob('*') if path.is_file()) == sorted(kept)
    remove_leftovers(tmp_path / 'nothing')
