"""What annotations call an image → the frame that it is."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
import unicodedata

from univseg_core.datasets.folders import name_key
from univseg_core.errors import did_you_mean, first_few


class FrameNames:
    """
    Frames by their names.

    A name is that of the frame whose file is called so; if there is none, of the one that is
    called so but for the ending. Of several, in different folders, the one counts whose path has
    most of the name's folders before it.
    """

    def __init__(self, frames: Sequence[Path]):
        self._by_name: dict[str, list[Path]] = {}
        self._by_key: dict[str, list[Path]] = {}
        for frame in frames:
            self._by_name.setdefault(_composed(frame.name), []).append(frame)
            self._by_key.setdefault(name_key(frame), []).append(frame)

    def find(self, names: Iterable[str]) -> 'Path | str':
        """Return the frame of the first name that is one's, or why there is none."""
        paths = [PurePosixPath(_composed(name).replace('\\', '/')) for name in names]
        for table, key in ((self._by_name, lambda path: path.name),
                           (self._by_key, lambda path: path.name),
                           (self._by_key, lambda path: path.stem)):
            for path in paths:
                if frames := table.get(key(path)):
                    return _nearest(path, frames)
        name = paths[0].name
        return f'no frame is called so{did_you_mean(name, self._by_name)}'


def _nearest(path: PurePosixPath, frames: list[Path]) -> 'Path | str':
    """Return the frame whose folders are most like those of a path, or that several are."""
    common = [_in_common(path, frame) for frame in frames]
    best = [frame for frame, count in zip(frames, common, strict=True) if count == max(common)]
    if len(best) == 1:
        return best[0]
    return f'may be any of {len(best)} frames: {first_few([str(frame) for frame in best])}'


def _in_common(path: PurePosixPath, frame: Path) -> int:
    """Return how many folders just above two files have the same names."""
    count = 0
    for one, other in zip(reversed(path.parent.parts), reversed(frame.parent.parts), strict=False):
        if one != _composed(other):
            break
        count += 1
    return count


def _composed(name: str) -> str:
    return unicodedata.normalize('NFC', name)  # a Mac writes é as two characters
