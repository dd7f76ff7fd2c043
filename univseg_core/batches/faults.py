"""Image files of a run that cannot be read: found early, counted, and how many are too many."""

from collections.abc import Iterable
from pathlib import Path

from univseg_core.datasets.folders import DataError
from univseg_core.pictures.encoded import JPEG_END, JPEG_START, PNG_SIGNATURE

FAULTY_SHARE = 0.05
"""Share of a run's images that may be unreadable."""

FAULTY_FILES = 5
"""How many may be unreadable in any case, up to a quarter of a run's images."""

ENDS = {PNG_SIGNATURE: b'IEND', JPEG_START: JPEG_END,
        b'BM': b'', b'RIFF': b'', b'II*\0': b'', b'MM\0*': b''}  # BMP, WebP, TIFF
"""What stands at the end of a whole file, where something does, by how it begins."""

LAST_BYTES = 64
NAMED = 10


class FaultCount:
    """The files of a run that could not be read, counted once each."""

    def __init__(self, total_images: int):
        self._total = total_images
        self._limit = int(max(FAULTY_SHARE * total_images,
                              min(FAULTY_FILES, total_images / 4)))
        self._messages: dict[str, None] = {}

    @property
    def files(self) -> int:
        """Return how many files could not be read until now."""
        return len(self._messages)

    def add(self, faults: Iterable[str]) -> list[str]:
        """Return those of some batches' faults that were not seen before."""
        new = [fault for fault in dict.fromkeys(faults) if fault not in self._messages]
        self._messages.update(dict.fromkeys(new))
        return new

    def check(self) -> None:
        """Raise DataError where more images could not be read than a run can do without."""
        if self.files > self._limit:
            raise DataError(
                f'{self.files} of {self._total} images could not be read; more than '
                f'{self._limit} are too many:{named(list(self._messages))}')


def named(messages: list[str]) -> str:
    """Return the first of some messages, a line each, and how many more there are."""
    more = [f'… and {len(messages) - NAMED} more'] * (len(messages) > NAMED)
    return ''.join(f'\n  {message}' for message in messages[:NAMED] + more)


def seems_whole(path: Path) -> bool:
    """
    Say whether a file begins and ends as an image does; only those bytes are read.

    False for what only a decoder can tell, such as a camera's JPEG with more behind its end, and
    for what is no file: a pipe would be waited for.
    """
    if not path.is_file():
        return False
    try:
        with path.open('rb') as file:
            start = file.read(len(PNG_SIGNATURE))
            file.seek(max(0, path.stat().st_size - LAST_BYTES))
            end = file.read()
    except OSError:
        return False
    return any(start.startswith(sign) and its in end for sign, its in ENDS.items())
