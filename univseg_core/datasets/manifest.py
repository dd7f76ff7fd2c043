"""What became of each message of which frames were extracted: a CSV file that only grows."""

from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
import csv
from dataclasses import dataclass, fields
import io
from pathlib import Path
from typing import Any

from univseg_core.errors import UnivsegError
from univseg_core.files.records import record_bytes, RecordError

MANIFEST = 'manifest.csv'
KEPT = 'kept'


class ManifestError(UnivsegError):
    """A manifest that was not written by this program, or was changed."""


@dataclass(frozen=True)
class Row:
    """
    One message: where its frame is, or why there is none.

    `stamp` is the camera's and `time` that of recording, in nanoseconds; width and height are
    those of the file; `dhash` is a hash of the picture's looks. `outcome` is 'kept', or why the
    frame was not.
    """

    file: str
    bag: str
    topic: str
    stamp: int
    time: int
    width: int
    height: int
    dhash: str
    outcome: str


COLUMNS = [field.name for field in fields(Row)]
NUMBERS = [field.name for field in fields(Row) if field.type is int]


class Manifest:
    """
    The manifest of a folder of frames, to which rows are appended while it is open.

    `files` are the names of all frames in it, `was_empty` says whether there were none, nor any
    other row. A line that an interrupted process left unfinished is taken away first. Raises
    ManifestError for another file of that name.
    """

    def __init__(self, folder: Path):
        path = folder / MANIFEST
        rows = _read(path) if path.is_file() else []
        self._known: dict[tuple, deque[Row]] = defaultdict(deque)
        for row in rows:
            self._known[row.bag, row.topic, row.time].append(row)
        self.was_empty = not rows
        self.files = {row.file for row in rows if row.file}
        self._file = path.open('a', encoding='utf-8', newline='')
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator='\n')
        if not self._file.tell():
            self._writer.writeheader()
            self._file.flush()

    def __enter__(self) -> 'Manifest':
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # A line that could not be written has raised one before.
            self._file.close()

    def known(self, bag: str, topic: str, time: int) -> Row | None:
        """Return the row that an earlier call wrote of a message, each once; None without one."""
        rows = self._known.get((bag, topic, time))
        return rows.popleft() if rows else None

    def append(self, row: Row) -> None:
        """Write a row at the end."""
        self._writer.writerow(vars(row))
        self._file.flush()


def read_manifest(folder: Path) -> list[Row]:
    """Return the rows of a folder's manifest; raise ManifestError where it is damaged."""
    return _parse(folder / MANIFEST, _bytes(folder / MANIFEST))


def _read(path: Path) -> list[Row]:
    data = _bytes(path)
    whole = data.rfind(b'\n') + 1
    rows = _parse(path, data[:whole])
    if whole < len(data):
        with path.open('rb+') as file:
            file.truncate(whole)
    return rows


def _bytes(path: Path) -> bytes:
    try:
        return record_bytes(path)
    except RecordError as error:
        raise ManifestError(f'{path}: not a manifest of frames: {error}') from error


def _parse(path: Path, data: bytes) -> list[Row]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode(), newline=''))
        if data and reader.fieldnames != COLUMNS:
            raise ValueError(f'expected the columns {", ".join(COLUMNS)}')
        rows: Iterable[dict[str, Any]] = reader
        return [Row(**values | {name: int(values[name]) for name in NUMBERS})
                for values in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise ManifestError(f'{path}: not a manifest of frames: {error}') from error
