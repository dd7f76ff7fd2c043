"""Which label maps are still as `prelabel` wrote them, by a list that it leaves beside them."""

from collections.abc import Mapping, Sequence
import csv
import hashlib
import io
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import DataError, name_key
from univseg_core.domains import IGNORE_INDEX
from univseg_core.files import write_text
from univseg_core.files.records import read_rows

LIST = 'prelabels.csv'

FRAME, CONTENT = 'frame', 'content'
"""The list's columns: a frame's name without ending, and `content_of` its label map."""


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


def write_list(folder: Path, contents: Mapping[Path, str]) -> None:
    """Write into a folder the contents of its label maps, by the frames."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow([FRAME, CONTENT])
    rows.writerows((name_key(frame), content) for frame, content in contents.items())
    write_text(folder / LIST, text.getvalue())


class Prelabels:
    """The lists of `prelabel`, each for what lies beside it and in folders below."""

    def __init__(self) -> None:
        self._nearest: dict[Path, tuple[Path, Mapping[str, str]] | None] = {}

    def folder_of(self, file: Path) -> Path | None:
        """Return the folder of the list that is for a file, None where there is none."""
        nearest = self._find(file.parent.resolve())
        return nearest and nearest[0]

    def has(self, file: Path, frame: Path, content: str) -> bool:
        """
        Return whether what a file has of a frame is as `prelabel` wrote it.

        Raises DataError, which names the list, where that is damaged.
        """
        nearest = self._find(file.parent.resolve())
        return nearest is not None and nearest[1].get(name_key(frame)) == content

    def _find(self, folder: Path) -> tuple[Path, Mapping[str, str]] | None:
        if folder not in self._nearest:
            if (folder / LIST).is_file():
                self._nearest[folder] = folder, _read(folder / LIST)
            else:
                self._nearest[folder] = None if folder == folder.parent else self._find(
                    folder.parent)
        return self._nearest[folder]


def _read(path: Path) -> Mapping[str, str]:
    try:
        columns, rows = read_rows(path, strict=True)
        if columns[:2] != [FRAME, CONTENT]:
            raise ValueError(f'expected the columns {FRAME} and {CONTENT}')
        return {row[FRAME]: row[CONTENT] for row in rows}
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: what prelabel noted of its masks cannot be read: {error}; '
                        'without this file, nothing tells which are as it wrote them') from error
