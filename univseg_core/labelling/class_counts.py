"""How much of each class there is in labels that are brought in."""

from collections.abc import Mapping

import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.pictures.label_meaning import VOID


class ClassCounts:
    """Objects, images and pixels of each class of a domain, and of void."""

    def __init__(self, domain: Domain):
        self._names = {**dict(enumerate(domain.classes)), IGNORE_INDEX: VOID}
        self._objects: np.ndarray | None = None
        self._images, self._pixels = np.zeros(256, np.int64), np.zeros(256, np.int64)

    def add(self, pixels: np.ndarray, objects: Mapping[int, int] | None) -> None:
        """Add an image's pixels (256,) by class, and objects, None where nothing tells them."""
        self._pixels += pixels
        self._images += pixels > 0
        if objects is not None:
            if self._objects is None:
                self._objects = np.zeros(256, np.int64)
            for index, count in objects.items():
                self._objects[index] += count

    def rows(self) -> list[dict]:
        """Return of each class, and of void, its objects, images, pixels, and share (0..1)."""
        whole = max(1, int(self._pixels.sum()))
        return [{'class': name,
                 'objects': None if self._objects is None else int(self._objects[index]),
                 'images': int(self._images[index]), 'pixels': int(self._pixels[index]),
                 'share': int(self._pixels[index]) / whole}
                for index, name in self._names.items()]

    def table(self) -> str:
        """Return the rows as a text in columns."""
        rows: list[tuple[str, ...]] = [
            ('class', 'objects', 'images', 'pixels', 'share'),
            *((row['class'], str(row['objects']), str(row['images']), str(row['pixels']),
               f'{100 * row["share"]:.2f} %') for row in self.rows())]
        if self._objects is None:
            rows = [(row[0], *row[2:]) for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return '\n'.join(
            '  '.join([row[0].ljust(widths[0]),
                       *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:],
                                                                  strict=True))]).rstrip()
            for row in rows)
