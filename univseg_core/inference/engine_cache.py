"""Engines that a runtime builds for one machine and model, kept beside the model."""

from collections.abc import Callable, Mapping
import errno
import hashlib
import json
import logging
import os
from pathlib import Path
import shutil
from typing import Any, TypeVar

from univseg_core.errors import UnivsegError
from univseg_core.files import temporary_folder, write_text
from univseg_core.files.records import read_json

MADE_FOR = 'made_for.json'
"""The file in a folder of engines that says for what they were built."""

Session = TypeVar('Session')

log = logging.getLogger(__name__)


def engines_folder(model: Path) -> Path:
    """Return the folder that keeps the engines of a model file, for all machines."""
    return model.with_name(f'{model.name}.engines')


def with_kept_engines(folder: Path, made_for: Mapping[str, str], bytes_needed: int,
                      open_session: Callable[[Path | None], Session]) -> Session:
    """
    Return a session that `open_session` makes with the engines that are kept in a folder.

    `open_session` takes the folder of the engines: those that lie there are used, others built and
    written there; with None, all are built and none is kept. What they are built for (GPU,
    versions, model) names a folder of their own. So engines of another GPU or version are never
    used, and stay as they are, which the log says. New ones take about `bytes_needed`, and are
    written elsewhere, read back, and only then named: what a kill or a full disk left is never
    used. Where what is kept cannot be used, new ones take its place, and where they cannot be kept
    they are built each time; the log says why.

    Raises what `open_session` does of the network itself.
    """
    own = folder / _name(made_for)
    if there := own.exists():
        if (session := _kept(own, made_for, open_session)) is not None:
            return session
    else:
        _tell_others(folder, made_for)
    log.info('%s: engines are built now, once for this machine; it may take minutes', own)
    session = None
    try:
        with temporary_folder(own) as temporary:
            _check_free(temporary, bytes_needed)
            try:
                session = open_session(temporary)
            except UnivsegError as error:
                _check_free(temporary, bytes_needed, f': {error}')  # another program took it
                raise
            session = _read_back(temporary, open_session)
            write_text(temporary / MADE_FOR, json.dumps(
                {'made_for': dict(made_for), 'files': _sizes(temporary)}, indent=1))
            if there:
                shutil.rmtree(own)  # only now: what could not be read may be whole
            temporary.replace(own)
    except OSError as error:
        log.warning('%s: engines cannot be kept here, and are built at each start: %s', folder,
                    error)
    return open_session(None) if session is None else session


def _name(made_for: Mapping[str, str]) -> str:
    text = json.dumps(dict(made_for), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_free(folder: Path, needed: int, reason: str = '') -> None:
    """Raise OSError, with a reason, where a disk has fewer bytes free than are needed."""
    if (free := shutil.disk_usage(folder).free) < needed:
        raise OSError(errno.ENOSPC, f'{free >> 20} MB are free, and about {needed >> 20} MB are '
                      f'needed{reason}')


def _kept(own: Path, made_for: Mapping[str, str],
          open_session: Callable[[Path | None], Session]) -> Session | None:
    """Return a session with the engines of a folder; None where they cannot be used."""
    try:
        told, sizes = _told(own), _sizes(own)
        if told.get('made_for') != made_for:
            raise UnivsegError(f'{MADE_FOR} does not say so')
        if any(sizes.get(name) != size for name, size in told['files'].items()):
            raise UnivsegError('files are missing, or not as long as they were')
        session = open_session(own)
    except UnivsegError as error:
        log.warning('%s: what is kept here are no engines of this model for this machine (%s): '
                    'others will take its place', own, error)
        return None
    log.info('%s: the engines that are kept here are used', own)
    return session


def _read_back(folder: Path, open_session: Callable[[Path | None], Session]) -> Session:
    """Return a session with engines that were just written; OSError if they are not whole."""
    sizes = _sizes(folder)
    if not sizes or not all(sizes.values()):
        raise OSError(errno.EIO, 'none was written, or an empty one')
    try:
        session = open_session(folder)
    except UnivsegError as error:
        free = shutil.disk_usage(folder).free
        raise OSError(errno.EIO, f'they were not written whole, and {free >> 20} MB are free: '
                      f'{error}') from error
    for name in sizes:
        with (folder / name).open('rb') as file:
            os.fsync(file.fileno())
    return session


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file of a folder."""
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


def _tell_others(folder: Path, made_for: Mapping[str, str]) -> None:
    """Say for what else engines are kept already, and why they are not used."""
    for path in sorted(folder.glob(f'[!.]*/{MADE_FOR}')):
        other = _told(path.parent).get('made_for', {})
        log.info('%s: engines are kept here for %s: they are not used, and stay', path.parent,
                 '; '.join(f'{key} {other.get(key)!r}, which is now {value!r}'
                           for key, value in made_for.items() if other.get(key) != value))


def _told(folder: Path) -> dict[str, Any]:
    """Return for what a folder's engines were built, and their files; nothing if unreadable."""
    try:
        told = read_json(folder / MADE_FOR)
        return {'made_for': dict(told['made_for']), 'files': dict(told['files'])}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
