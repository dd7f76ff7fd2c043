"""What annotations call an image → the frame that it is."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
import unicodedata

from univseg_core.datasets.folders import by_name
from univseg_core.errors import did_you_mean


class FrameNames:
    """
    Frames by their names.

    A name, whatever folders stand before it, is that of the frame whose file is called so; if
    there is none, of the one that is called so but for the ending. Raises DataError for two
    frames of the same name but for that.
    """

    def __init__(self, frames: Sequence[Path]):
        self._by_key = by_name(frames)
        self._by_name = {_composed(frame.name): frame for frame in frames}

    def find(self, names: Iterable[str]) -> 'Path | str':
        """Return the frame of the first name that is one's, or why there is none."""
        paths = [PurePosixPath(_composed(name).replace('\\', '/')) for name in names]
        for path in paths:
            if path.name in self._by_name:
                return self._by_name[path.name]
        for path in paths:
            for key in (path.name, path.stem):  # a name without an ending may have dots, too
                if key in self._by_key:
                    return self._by_key[key]
        return f'no frame is called so{did_you_mean(paths[0].name, self._by_name)}'


def _composed(name: str) -> str:
    return unicodedata.normalize('NFC', name)  # a Mac writes é as two characters
