"""Large JSON files that are a few long lists: read item by item, none of which is kept."""

from collections.abc import Iterator
import json
from pathlib import Path
import re
from typing import Any

from univseg_core.errors import shortened
from univseg_core.files.records import MOST_VALUES, record_bytes, RecordError

MOST_NUMBERS = 10 * MOST_VALUES
"""Values in such a file, counted by its commas; its lists and objects may be MOST_VALUES."""

SPACE = re.compile(r'[ \t\n\r]*')


def read_items(path: Path) -> Iterator[tuple[str, Any]]:
    """
    Yield each key of the JSON object in a file with its value, a list's items one by one.

    An empty list yields nothing. What is wrong with the file is raised where reading comes to it:
    RecordError, a ValueError, where it is no JSON object in UTF-8, is nested too deeply, or is
    larger than limits.RECORDS or MOST_NUMBERS; OSError where it cannot be read.
    """
    return _items(_cursor(path))


def read_list(path: Path) -> Iterator[Any]:
    """
    Yield the items of the JSON list in a file, one by one.

    Raises RecordError where it is no JSON list, as `read_items` does.
    """
    return _whole_list(_cursor(path))


def _cursor(path: Path) -> '_Cursor':
    """Return the beginning of a file's text; raise RecordError for a file that is too large."""
    data = record_bytes(path)
    if data.count(b'[') + data.count(b'{') > MOST_VALUES or data.count(b',') > MOST_NUMBERS:
        raise RecordError(f'more than {MOST_VALUES} lists and objects, or {MOST_NUMBERS} values')
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise RecordError('not a text in UTF-8') from error
    return _Cursor(text)


class _Cursor:
    """A place in a JSON text."""

    def __init__(self, text: str):
        self._text, self._at = text, 0
        self._decoder = json.JSONDecoder()

    def ahead(self) -> str:
        """Return the next character that is no space, '' at the end."""
        found = SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at:self._at + 1]

    def take(self, expected: str) -> str:
        """Return the next character, which is to be one of those that are expected."""
        character = self.ahead()
        if not character or character not in expected:
            found = repr(character) if character else 'its end'
            raise RecordError(f'not JSON: expected {" or ".join(expected)}, got {found} at '
                              f'character {self._at}')
        self._at += 1
        return character

    def end(self) -> None:
        """Raise RecordError where anything but space follows."""
        if self.ahead():
            raise RecordError('not JSON: something follows behind its end')

    def value(self) -> Any:
        """Return the value that begins here."""
        self.ahead()
        try:
            value, self._at = self._decoder.raw_decode(self._text, self._at)
        except RecursionError:
            raise RecordError('values too deep in each other') from None
        except ValueError as error:
            raise RecordError(f'not JSON: {shortened(str(error))}') from error
        return value


def _items(cursor: _Cursor) -> Iterator[tuple[str, Any]]:
    cursor.take('{')
    end = cursor.take('}') if cursor.ahead() == '}' else ','
    while end == ',':
        key = cursor.value()
        if not isinstance(key, str):
            raise RecordError(f'not JSON: {shortened(repr(key), 40)} is no key')
        cursor.take(':')
        if cursor.ahead() != '[':
            yield key, cursor.value()
        else:
            yield from ((key, item) for item in _list(cursor))
        end = cursor.take(',}')
    cursor.end()


def _whole_list(cursor: _Cursor) -> Iterator[Any]:
    yield from _list(cursor)
    cursor.end()


def _list(cursor: _Cursor) -> Iterator[Any]:
    cursor.take('[')
    end = cursor.take(']') if cursor.ahead() == ']' else ','
    while end == ',':
        yield cursor.value()
        end = cursor.take(',]')
