"""What is extracted from a data set's archives once, and kept for the next time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import fcntl
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import IO

from univseg_core.files import remove_leftovers, write_text
from univseg_core.files.records import read_json

LOCK = 'lock'

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return where extracted files go: $UNIVSEG_CACHE, else univseg in the user's cache."""
    if folder := os.environ.get('UNIVSEG_CACHE'):
        return Path(folder).expanduser()
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'univseg'


def folder_for(name: str, source: Path) -> Path:
    """Return the folder for what comes from a file, as long as the file stays as it is."""
    facts = source.stat()
    key = f'{source.resolve()}:{facts.st_size}:{facts.st_mtime_ns}'
    return cache_folder() / f'{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}'


def extracted_once(name: str, source: Path,
                   extract: Callable[[Path], Mapping]) -> tuple[Path, Mapping]:
    """
    Return the folder for what comes from a file, and what `extract` returned of it.

    `extract` writes into the folder, once: what it returns, plain JSON values, is kept there.
    """
    folder = folder_for(name, source)
    done = folder / 'complete.json'
    if not done.is_file():
        with claimed(folder):
            if not done.is_file():
                write_text(done, json.dumps(extract(folder)))
    return folder, read_json(done)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder; they wait until this one is done."""
    is_held = False
    while not is_held:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open('a') as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX)
            except OSError as error:  # a network file system that has no locks
                log.info('%s: cannot be locked (%s)', folder, error.strerror)
            is_held = _is_at(file, folder / LOCK)  # who had it may have removed the folder
            if is_held:
                for below in (folder, *(path for path in folder.iterdir() if path.is_dir())):
                    remove_leftovers(below)
                yield


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is the one at a path."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
