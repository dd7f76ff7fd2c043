"""Annotation files in JSON: which there are, and their values, each judged before it is used."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import logging
from pathlib import Path
from typing import Any

import numpy as np
from univseg_core.annotations.regions import AnnotationError, Ring
from univseg_core.errors import first_few, shortened
from univseg_core.files.json_items import read_list
from univseg_core.files.limits import PIXELS
from univseg_core.files.records import read_json, RecordError

HEAD, FEW = 1 << 16, 200
"""Bytes of a file, and files of a folder, by which a format is recognised."""

MISSING = object()

log = logging.getLogger(__name__)


@contextmanager
def told_of(what: object) -> Iterator[None]:
    """Raise an AnnotationError of the block with what it is of, such as an object, before it."""
    try:
        yield
    except AnnotationError as error:
        raise AnnotationError(f'{what}: {error}') from None


def files_below(path: Path, ending: str = '.json') -> list[Path]:
    """
    Return a file, or the files below a folder of that ending that are not hidden, by name.

    The ending, in small letters, may be in capitals there.
    """
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob('*') if file.name.lower().endswith(ending)
                  and file.is_file()
                  and not any(part.startswith('.') for part in file.relative_to(path).parts))


def some_heads(path: Path, ending: str = '.json') -> Iterator[str]:
    """Yield the beginnings of a JSON file, or of the first FEW of a folder by `files_below`."""
    for file in files_below(path, ending)[:FEW]:
        if file.name.lower().endswith(ending) and file.is_file():
            yield head_of(file)


def files_of(path: Path, recognises: Callable[[str], bool], name: str) -> list[Path]:
    """
    Return a file, or the JSON files below a folder whose beginnings are of a format.

    The log names the others, but files that are empty or cannot be read are returned. Where none
    is of the format, all are returned, for errors to tell why; raises AnnotationError where there
    is no JSON file.
    """
    files = files_below(path)
    if not files:
        raise AnnotationError(f'{path}: no JSON file is in it')
    if not path.is_dir():
        return files
    found = [file for file in files if not (head := head_of(file)) or recognises(head)]
    if 0 < len(found) < len(files):
        others = [str(file.relative_to(path)) for file in sorted({*files} - {*found})]
        log.warning('%s: %d of %d JSON files are not of %s and are left alone: %s', path,
                    len(others), len(files), name, first_few(others))
    return found or files


def head_of(file: Path) -> str:
    """Return the beginning of a file, '' of one that cannot be read."""
    try:
        with file.open('rb') as opened:
            return opened.read(HEAD).decode('utf-8-sig', errors='replace').lstrip()
    except OSError:
        return ''


def read_object(path: Path) -> dict:
    """Return what a JSON file holds, an object; raise AnnotationError, which names the file."""
    try:
        values = read_json(path)
    except RecordError as error:
        raise AnnotationError(f'{path}: {error}') from None
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror}') from None
    if not isinstance(values, dict):
        raise AnnotationError(f'{path}: expected an object {{…}}, got {_kind(values)}')
    return values


def read_entries(path: Path) -> Iterator[Any]:
    """
    Yield the values of a JSON file that is a list, one at a time.

    Raises AnnotationError, which names the file, as `read_object` does.
    """
    try:
        yield from read_list(path)
    except RecordError as error:
        raise AnnotationError(f'{path}: {error}') from None
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror}') from None


def pick(values: Mapping, key: str, kind: type, default: Any = MISSING) -> Any:
    """
    Return what an object has by a key, of that kind (float: any number).

    `default` is returned where it has none, or null. Raises AnnotationError, which names the
    key, where it is missing without a default, or of another kind.
    """
    value = values.get(key)
    if value is None and default is not MISSING:
        return default
    kinds = (int, float) if kind is float else kind
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        words = {str: 'a text', dict: 'an object', list: 'a list', int: 'a whole number',
                 float: 'a number', bool: 'true or false'}
        got = _kind(value) if key in values else 'nothing'
        raise AnnotationError(f'{key}: expected {words[kind]}, got {got}')
    if isinstance(value, str) and not value.strip():
        raise AnnotationError(f'{key}: expected a text, got an empty one')
    return value


def as_object(value: Any) -> dict:
    """Return a value that is to be an object; raise AnnotationError where it is not."""
    if not isinstance(value, dict):
        raise AnnotationError(f'expected an object {{…}}, got {_kind(value)}')
    return value


def checked_size(height: int, width: int) -> tuple[int, int]:
    """Return an image's size; raise AnnotationError for none, or more than limits.PIXELS."""
    if height < 1 or width < 1:
        raise AnnotationError(f'an image of {shortened(f"{width}×{height}", 50)} pixels')
    if height * width > PIXELS():
        raise AnnotationError(f'{shortened(f"{width}×{height}", 50)} pixels, more than {PIXELS}')
    return height, width


def points_of(values: Any, fewest: int, most: int | None = None) -> Ring:
    """
    Return points [x, y] as (n, 2) float64.

    Raises AnnotationError for fewer or more than expected, or numbers that are not finite.
    """
    words = (f'at least {fewest}' if most is None else
             str(fewest) if most == fewest else f'{fewest} to {most}')
    try:
        points = np.array(values, float) if values else np.empty((0, 2))
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise AnnotationError('expected points [x, y] of two finite numbers')
    if len(points) < fewest or (most is not None and len(points) > most):
        raise AnnotationError(f'expected {words} points, got {len(points)}')
    return points


def _kind(value: Any) -> str:
    if value is None:
        return 'null'
    if isinstance(value, (dict, list)):
        return 'an object' if isinstance(value, dict) else 'a list'
    return shortened(repr(value), 40)
