"""Annotation files in JSON: which there are, and their values, each judged before it is used."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import json
from json.decoder import JSONDecoder, WHITESPACE
from pathlib import Path
from typing import Any

import numpy as np
from univseg_core.annotations.regions import AnnotationError, Ring
from univseg_core.errors import shortened
from univseg_core.files.limits import PIXELS
from univseg_core.files.records import MOST_VALUES, parse_json, record_bytes, RecordError

HEAD = 1 << 16
"""Bytes of a file by which its format is recognised."""

MOST_NUMBERS = 1 << 25
"""Commas of a list of which one element at a time is made: run lengths are many small numbers."""

MISSING = object()


@contextmanager
def told_of(what: object) -> Iterator[None]:
    """Raise an AnnotationError of the block with what it is of, such as an object, before it."""
    try:
        yield
    except AnnotationError as error:
        raise AnnotationError(f'{what}: {error}') from None


def json_files(path: Path, ending: str = '.json') -> list[Path]:
    """Return a file, or the files below a folder of that ending that are not hidden, by name."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob(f'*{ending}') if file.is_file()
                  and not any(part.startswith('.') for part in file.relative_to(path).parts))


def head_of(path: Path) -> str:
    """Return the beginning of a file, or of a folder's first JSON file; '' where there is none."""
    try:
        files = json_files(path)
        if not files or files[0].suffix.lower() != '.json' or not files[0].is_file():
            return ''
        with files[0].open('rb') as file:
            return file.read(HEAD).decode('utf-8-sig', errors='replace').lstrip()
    except OSError:
        return ''


def read_object(path: Path) -> dict:
    """Return what a JSON file holds, an object; raise AnnotationError, which names the file."""
    try:
        values = parse_json(record_bytes(path))
    except RecordError as error:
        raise AnnotationError(f'{path}: {error}') from None
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror}') from None
    if not isinstance(values, dict):
        raise AnnotationError(f'{path}: expected an object {{…}}, got {_kind(values)}')
    return values


def read_list(path: Path) -> Iterator[Any]:
    """
    Yield the values of a JSON file that is a list, one at a time.

    Raises AnnotationError, which names the file, as `read_object` does, and for more than
    MOST_VALUES lists and objects or MOST_NUMBERS commas.
    """
    try:
        data = record_bytes(path)
        text = data.decode('utf-8-sig')
    except (RecordError, UnicodeDecodeError) as error:
        raise AnnotationError(f'{path}: {error}') from None
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror}') from None
    if data.count(b'[') + data.count(b'{') > MOST_VALUES or data.count(b',') > MOST_NUMBERS:
        raise AnnotationError(f'{path}: more than {MOST_VALUES} objects or {MOST_NUMBERS} '
                              'numbers; export it in parts')
    del data
    try:
        yield from _elements(text)
    except RecursionError:
        raise AnnotationError(f'{path}: values too deep in each other') from None
    except ValueError as error:  # of the parser: what this yields to raises elsewhere
        raise AnnotationError(f'{path}: not JSON: {shortened(str(error))}') from None


def _elements(text: str) -> Iterator[Any]:
    """Yield the elements of a list's text; raise ValueError where it is none."""
    decoder = JSONDecoder()

    def expect(characters: str, at: int) -> int:
        at = WHITESPACE.match(text, at).end()  # type: ignore[union-attr]
        if text[at:at + 1] not in tuple(characters):
            raise json.JSONDecodeError(f'expected {" or ".join(characters)}', text, at)
        return at

    def skip(at: int) -> int:
        return WHITESPACE.match(text, at).end()  # type: ignore[union-attr]

    at = skip(expect('[', 0) + 1)
    while text[at:at + 1] != ']':
        value, at = decoder.raw_decode(text, at)
        yield value
        at = expect(',]', at)
        if text[at] == ',':
            at = skip(at + 1)
    if skip(at + 1) != len(text):
        raise json.JSONDecodeError('more behind the list', text, at + 1)


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
    if kind is str and not value.strip():
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
        raise AnnotationError(f'an image of {shortened(f"{width}×{height}", 50)} pixels, more '
                              f'than {PIXELS}')
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
