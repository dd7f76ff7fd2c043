"""Views of frames in a file, so that a ranking that was cut short goes on where it was."""

import base64
import binascii
from collections.abc import Iterator, Mapping
import json
import logging
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from univseg_core.errors import UnivsegError
from univseg_core.files import replacing
from univseg_core.files.records import parse_json
from univseg_core.labelling.frame_views import FrameView

LONGEST_LINE = 1 << 20
"""Bytes of a line at most; one of a view has some 2000."""

VERSION = 1

log = logging.getLogger(__name__)


class KeptViews:
    """
    The views of frames that were made before, and those that are made now, by frame.

    The file is of JSON lines: what the views depend on, `made_by`, then one view a line, which is
    added when it is made; a kill costs no more than the line that was being written. Views are
    those of a file as long as its absolute path, size and time of change are the same. A file of
    other views, or a damaged one, begins anew.
    """

    def __init__(self, path: Path, made_by: Mapping[str, object], classes: int):
        self._path, self._classes = path, classes
        self._head = json.dumps({'version': VERSION, **made_by}, sort_keys=True)
        self._known: dict[str, FrameView] = {}
        self._file: BinaryIO | None = None
        self.found = 0

    def __enter__(self) -> 'KeptViews':
        """Read what is there, and open the file for more."""
        size = self._read()
        if size is None:
            self._known.clear()
            with replacing(self._path) as temporary:
                temporary.write_text(f'{self._head}\n', encoding='utf-8')
        self._file = self._path.open('rb+')
        if size is not None:
            self._file.truncate(size)
        self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(self, *unused: object) -> None:
        """Close the file."""
        assert self._file is not None
        self._file.close()

    def get(self, frame: Path) -> FrameView | None:
        """Return the view of a frame as it is now, or None; raise OSError where it is gone."""
        return self._known.get(_key(frame))

    def add(self, frame: Path, view: FrameView) -> None:
        """Keep the view of a frame as it is now."""
        assert self._file is not None
        line = json.dumps([_key(frame), view.picture, _text_of(view)])
        self._file.write(f'{line}\n'.encode())
        self._file.flush()

    def _read(self) -> int | None:
        """Take the views that are there; return the bytes that are sound, None for no such."""
        try:
            with self._path.open('rb') as file:
                if file.readline(LONGEST_LINE) != f'{self._head}\n'.encode():
                    return None
                size = file.tell()
                for line in _lines(file):
                    key, picture, text = parse_json(line)
                    self._known[str(key)] = _view_of(text, int(picture), self._classes)
                    size += len(line)
                return size
        except FileNotFoundError:
            return None
        except (OSError, UnivsegError, ValueError, TypeError) as error:
            log.warning('%s: damaged (%s); its views are made anew', self._path, error)
            return None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines that have an end."""
    while (line := file.readline(LONGEST_LINE)).endswith(b'\n'):
        yield line
    if len(line) == LONGEST_LINE:
        raise ValueError(f'a line of more than {LONGEST_LINE} bytes')


def _key(frame: Path) -> str:
    found = frame.stat()
    return f'{frame.absolute()} {found.st_size} {found.st_mtime_ns}'


def _text_of(view: FrameView) -> str:
    """Return a view's numbers, float64 in base64: those that come back are the same."""
    a, b, share = view.confusion or (-1, -1, 0)
    contradicted = np.nan if view.contradicted is None else view.contradicted
    numbers = np.concatenate([
        [view.undecided, contradicted, a, b, share, view.outline],
        view.shown, view.uncertain, view.vector]).astype('<f8')
    return base64.b64encode(numbers.tobytes()).decode()


def _view_of(text: str, picture: int, classes: int) -> FrameView:
    """Return the view of a text; raise ValueError where it is none of so many classes."""
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), '<f8')
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if not (0 <= picture < 1 << 64 and len(numbers) > 6 + 2 * classes
            and -1 <= numbers[2:4].min() <= numbers[2:4].max() < classes):
        raise ValueError('not a view')
    undecided, contradicted, a, b, share, outline = numbers[:6].tolist()
    shown, uncertain, vector = np.split(numbers[6:], [classes, 2 * classes])
    return FrameView(shown, uncertain, undecided, None if np.isnan(contradicted) else contradicted,
                     None if a < 0 else (int(a), int(b), share), outline,
                     vector.astype(np.float32), picture)
