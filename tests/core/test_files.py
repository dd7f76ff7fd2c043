"""A file is either whole or as it was before."""

import errno
from pathlib import Path
import subprocess
import sys

import pytest
from univseg_core.files import (
    new_file,
    new_folder,
    read_lines,
    remove_leftovers,
    replacing,
    temporary_folder,
    write_text,
)


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


def test_a_new_folder_is_whole_or_not_there(tmp_path):
    path = tmp_path / 'below' / 'new'
    with pytest.raises(OSError, match='full'), new_folder(path) as unfinished:
        (unfinished / 'a').touch()
        raise OSError(errno.ENOSPC, 'full')
    assert not list(path.parent.iterdir())
    with new_folder(path) as unfinished:
        (unfinished / 'a').touch()
        assert not path.exists()
    assert [each.name for each in path.iterdir()] == ['a']
    assert [each.name for each in path.parent.iterdir()] == ['new']
    with pytest.raises(FileExistsError, match='name a new folder'), new_folder(path):
        pass


def test_leftovers_of_the_killed_are_removed_and_those_of_the_running_kept(tmp_path):
    code = ('import sys, time\nfrom pathlib import Path\n'
            'from univseg_core.files import temporary_folder\n'
            'with temporary_folder(Path(sys.argv[1])) as folder:\n'
            '    print(folder, flush=True)\n    time.sleep(60)')
    with subprocess.Popen([sys.executable, '-c', code, tmp_path / 'out'], text=True,
                          stdout=subprocess.PIPE) as process:
        left = Path(process.stdout.readline().strip())
        with temporary_folder(tmp_path / 'out'):
            assert left.is_dir()
        process.kill()
    assert left.is_dir()
    with temporary_folder(tmp_path / 'out'):
        assert not left.exists()


@pytest.mark.parametrize('data', [
    b'grass\ntall tree\n', b'\xef\xbb\xbfgrass\r\n  tall tree \r\n\r\n', b'grass\rtall tree',
    '\ufeffgrass\ntall tree\n'.encode('utf-16-le'), '\ufeffgrass\ntall tree'.encode('utf-16-be')])
def test_lines_are_the_same_whichever_editor_wrote_them(tmp_path, data):
    (tmp_path / 'classes.txt').write_bytes(data)
    assert read_lines(tmp_path / 'classes.txt') == ['grass', 'tall tree']


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / 'classes.txt').write_bytes(b'stra\xdfe')
    with pytest.raises(ValueError, match=r'classes\.txt: not a text file in UTF-8'):
        read_lines(tmp_path / 'classes.txt')


def no_links(*unused):
    raise PermissionError('no links here')


@pytest.mark.parametrize('links', [True, False])
def test_a_new_file_is_never_written_over_another(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr('os.link', no_links)
    with new_file(tmp_path / 'a.txt') as temporary:
        temporary.write_text('mine')
    with pytest.raises(FileExistsError, match='there is one'), new_file(tmp_path / 'a.txt'):
        pass
    with pytest.raises(FileExistsError), new_file(tmp_path / 'b.txt') as temporary:
        temporary.write_text('mine')
        (tmp_path / 'b.txt').write_text('made meanwhile')
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        'a.txt': 'mine', 'b.txt': 'made meanwhile'}
