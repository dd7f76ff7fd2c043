"""Which label maps are still as `prelabel` wrote them, by a list that it leaves beside them."""

from collections.abc import Mapping, Sequence
import csv
from dataclasses import dataclass
import hashlib
import io
import logging
from pathlib import Path
import re

import numpy as np
from univseg_core.datasets.folders import LABEL_SUFFIX, name_key
from univseg_core.domains import IGNORE_INDEX
from univseg_core.files import write_text
from univseg_core.files.records import read_rows

LIST = 'prelabels.csv'

COLUMNS = FRAME, CONTENT, FILES = 'frame', 'content', 'files'
"""
The list's columns: a frame's name without ending, `content_of` its label map, and `file_hash` of
each PNG of it, with spaces between them.
"""

HASH = re.compile('[0-9a-f]{32}')

log = logging.getLogger(__name__)


def content_of(mask: np.ndarray, classes: Sequence[str]) -> str:
    """
    Return 32 hexadecimal digits of what a label map (H, W) uint8 shows, 255 being void.

    They are those of size, pixels and names: where the same classes have other indices, the same.
    """
    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist()
    shown = sorted(('' if index == IGNORE_INDEX else classes[index], index) for index in found)
    table = np.zeros(256, np.uint8)
    table[[index for _, index in shown]] = range(len(shown))
    digest = hashlib.blake2b(repr((mask.shape, [name for name, _ in shown])).encode(),
                             digest_size=16)
    digest.update(table[mask].tobytes())
    return digest.hexdigest()


def file_hash(file: Path) -> str:
    """Return 32 hexadecimal digits of a file's bytes."""
    with file.open('rb') as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_list(folder: Path, contents: Mapping[Path, str]) -> None:
    """
    Write into a folder the contents of its label maps, by the frames.

    Hashes of the PNGs in the folders in it are noted, too, but for those of images/.
    """
    files: dict[str, list[str]] = {}
    for png in sorted(folder.glob(f'*/*{LABEL_SUFFIX}')):
        if png.parent.name != 'images':
            files.setdefault(name_key(png), []).append(file_hash(png))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow(COLUMNS)
    rows.writerows((name_key(frame), content, ' '.join(files.get(name_key(frame), [])))
                   for frame, content in contents.items())
    write_text(folder / LIST, text.getvalue())


@dataclass(frozen=True)
class Noted:
    """What a list, in `folder`, says of a frame: see `COLUMNS`."""

    folder: Path
    content: str
    files: frozenset[str]


class Prelabels:
    """The lists of `prelabel`, each for what lies beside it and in folders below."""

    def __init__(self) -> None:
        self._nearest: dict[Path, Mapping[str, Noted]] = {}

    def noted(self, file: Path, frame: Path) -> Noted | None:
        """
        Return what the list that is for a file says of a frame, None where there is nothing.

        A list that is damaged, or none of `prelabel`, says nothing, and is a warning.
        """
        return self._find(file.parent.resolve()).get(name_key(frame))

    def _find(self, folder: Path) -> Mapping[str, Noted]:
        if folder not in self._nearest:
            if (folder / LIST).is_file():
                self._nearest[folder] = _read(folder / LIST)
            else:
                self._nearest[folder] = {} if folder == folder.parent else self._find(
                    folder.parent)
        return self._nearest[folder]


def _read(path: Path) -> Mapping[str, Noted]:
    try:
        columns, rows = read_rows(path, strict=True)
        if columns != [*COLUMNS]:
            raise ValueError(f'expected the columns {", ".join(COLUMNS)}')
        for number, row in enumerate(rows, 1):
            if len(row) != len(COLUMNS) or None in row.values() or not all(
                    map(HASH.fullmatch, [row[CONTENT], *row[FILES].split()])):
                raise ValueError(f'row {number} is no name with hashes of 32 digits')
        return {row[FRAME]: Noted(path.parent, row[CONTENT], frozenset(row[FILES].split()))
                for row in rows}
    except (OSError, ValueError) as error:
        log.warning('%s: what prelabel noted of its masks cannot be read: %s; nothing tells which '
                    'are as it wrote them', path, error)
        return {}
