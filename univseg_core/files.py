"""Files that are either whole or not there."""

from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
import os
from pathlib import Path
import tempfile

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
    path = Path(path)
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
        # mkstemp makes files private; a finished file has the usual permissions.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove a folder's temporary files of processes that were killed while writing."""
    for path in folder.glob(f'.*{LEFTOVER}*'):
        path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding='utf-8')


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
