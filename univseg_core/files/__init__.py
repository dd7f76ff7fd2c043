"""Files that are either whole or not there."""

import codecs
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import errno
import fcntl
import glob
import hashlib
import os
from pathlib import Path
import shutil
import tempfile

from univseg_core.files.limits import TEXT

LEFTOVER = '.unfinished-'
"""What the names of temporary files have in common."""


@contextmanager
def replacing(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """
    Yield a temporary path beside `path` which takes its place when the block ends well.

    When the block raises (a full disk, an interrupt), an older file at `path` stays as it was
    and the temporary one is removed. If `durable`, the data is on disk before the name changes;
    else a power cut (no kill) may leave an empty file.
    """
    with _beside(Path(path), durable, os.replace) as temporary:
        yield temporary


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """
    Yield a temporary path beside `path` which takes that name when the block ends well.

    When the block raises, nothing is left. Raises FileExistsError where there is something of
    that name, be it made meanwhile: it stays as it was.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, 'there is one already', str(path))
    with _beside(path, True, _take_free_name) as temporary:
        yield temporary


def _take_free_name(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # unlike a rename, never over another file
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, 'there is one already', str(path)) from None
    except OSError:  # a file system without links, such as that of a USB stick
        path.touch(exist_ok=False)
        temporary.replace(path)
    else:
        temporary.unlink()


@contextmanager
def _beside(path: Path, durable: bool,
            finish: Callable[[Path, Path], object]) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f'.{path.stem}{LEFTOVER}', suffix=path.suffix,
                                    dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            with temporary.open('rb+') as file:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private
        finish(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """
    Yield a temporary folder beside `path` which takes its place when the block ends well.

    When the block raises, nothing is left. Raises FileExistsError where `path` is there already
    and not an empty folder: what is in it may be somebody's work.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(errno.EEXIST, 'there is something already; name a new folder',
                              str(path))
    with temporary_folder(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """
    Yield an empty folder beside `path`, on the same disk; what is in it in the end is removed.

    So are those that killed processes left, but not those of processes that are running.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f'.{path.name}{LEFTOVER}'
    for left in path.parent.glob(f'{glob.escape(prefix)}*'):
        with suppress(OSError), locked(left):
            shutil.rmtree(left)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    temporary.chmod(0o777 & ~_umask())  # mkdtemp makes folders private
    try:
        with locked(temporary):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    """Return the permissions that new files lack, which can only be read by setting them."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; raise OSError at once where another process does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove a folder's temporary files of processes that were killed while writing."""
    for path in folder.glob(f'.*{LEFTOVER}*'):
        path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def read_lines(path: Path | str) -> list[str]:
    """
    Return the lines of a text file that say something, without spaces around them.

    Editors of Windows begin files with a byte order mark and end lines with two characters: both
    are left out. Raises OSError where it cannot be read, ValueError, which names the file, where
    it is no text in UTF-8 (or UTF-16 with its mark).
    """
    return [line for line in map(str.strip, read_text(path).splitlines()) if line]


def read_text(path: Path | str) -> str:
    """
    Return a text file's text, without a byte order mark.

    Raises as `read_lines` does, and OSError for what is no file, such as a pipe that nobody
    writes to; ValueError for more than limits.TEXT.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, 'not a file', str(path))
    with path.open('rb') as file:
        data = file.read(TEXT() + 1)
    if len(data) > TEXT():
        raise ValueError(f'{path}: more than {TEXT}')
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode('utf-16' if wide else 'utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not a text file in UTF-8') from error


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
