"""JSON and CSV → plain values, or one error, whatever they hold; what runs and frames note."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from univseg_core.errors import shortened, UnivsegError
from univseg_core.files.limits import RECORDS

MOST_VALUES = 4_000_000
"""Values that a file has, as far as its commas and brackets tell."""

MOST_ROWS = 1_000_000


class RecordError(UnivsegError):
    """A text that is not JSON or not a table, or that is too large."""


def read_json(path: Path) -> Any:
    """
    Return the plain values of a JSON file in UTF-8.

    Raises RecordError as `parse_json` does, and for more than limits.RECORDS bytes; OSError
    where it cannot be read.
    """
    return parse_json(record_bytes(path))


def parse_json(text: str | bytes) -> Any:
    """
    Return the plain values of a JSON text.

    Raises RecordError, a ValueError, where it is none, is nested too deeply, or has more than
    MOST_VALUES values.
    """
    data = text.encode(errors='surrogatepass') if isinstance(text, str) else text
    _check(sum(map(data.count, (b',', b'[', b'{'))), MOST_VALUES, 'values')
    try:
        return json.loads(text)
    except RecursionError:
        raise RecordError('values too deep in each other') from None
    except ValueError as error:
        raise RecordError(f'not JSON: {shortened(str(error))}') from error


def read_rows(path: Path, whole_lines: bool = False,
              strict: bool = False) -> tuple[list[str], list[dict]]:
    """
    Return the columns of a CSV file, and its rows by these.

    Cells beyond the last column are a list under the key '', missing ones are None. `whole_lines`
    leaves out what follows the last line's end; `strict` refuses a quoted cell that is not
    closed, and what is not UTF-8.
    Raises RecordError for more than limits.RECORDS bytes, MOST_ROWS lines or MOST_VALUES cells,
    or a cell of more than 131072 characters; OSError where it cannot be read.
    """
    data = record_bytes(path)
    if whole_lines:
        data = data[:data.rfind(b'\n') + 1]
    try:
        text = data.decode('utf-8-sig', errors='strict' if strict else 'replace')
    except UnicodeDecodeError as error:
        raise RecordError(f'not a text in UTF-8: {error}') from error
    text = text.replace('\0', '?')
    lines = max(data.count(b'\n'), data.count(b'\r'))
    _check(lines, MOST_ROWS, 'rows')
    _check(lines + data.count(b','), MOST_VALUES, 'values')
    reader = csv.DictReader(io.StringIO(text, newline=''), restkey='', restval=None,
                            strict=strict)
    try:
        rows: list[dict] = list(reader)
        return list(reader.fieldnames or []), rows
    except csv.Error as error:
        raise RecordError(f'not a table: {error}') from error


def record_bytes(path: Path) -> bytes:
    """Return a file's bytes; raise RecordError for more than limits.RECORDS or no file."""
    if path.exists() and not path.is_file():
        raise RecordError('not a file')
    with path.open('rb') as file:
        data = file.read(RECORDS() + 1)
    if len(data) > RECORDS():
        raise RecordError(f'more than {RECORDS}')
    return data


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise RecordError(f'more than {most} {what}')
