"""What annotations call an image → the frame that it is."""

from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
import re
import unicodedata

from univseg_core.datasets.folders import DataError, has_text_name, name_key, NO_TEXT_NAME
from univseg_core.errors import did_you_mean, first_few, in_one_line
from univseg_core.pictures.picture_files import IMAGE_SUFFIXES, OTHER_SUFFIXES

OF_TOOLS = frozenset({
    '', '.', '..', '/', 'data', 'default', 'frames', 'image', 'images', 'img', 'imgs',
    'jpegimages', 'obj_train_data', 'test', 'train', 'upload', 'uploads', 'val', 'valid',
    'validation'})
"""Folders that tools and exports put before a name, which do not tell cameras or days apart."""


class FrameNames:
    """
    Frames by their names, and by the folders below `root` that they are in, where it is given.

    A name is that of the frame whose file is called so; if there is none, of the one that is
    called so but for the ending of a picture. Of several, the one counts that has most folders in
    common with the name, from its end. A frame in another folder than the name says is not meant;
    but folders that tools make, such as images/, say nothing. Raises DataError for a name that is
    not in UTF-8 or of several lines.
    """

    def __init__(self, frames: Sequence[Path], root: Path | None = None):
        self._by_key: dict[str, list[Path]] = {}
        self._by_name: dict[str, list[Path]] = {}
        self._root = root
        for frame in frames:
            if not has_text_name(frame):
                raise DataError(f'{in_one_line(frame)}: {NO_TEXT_NAME}')
            self._by_key.setdefault(name_key(frame), []).append(frame)
            self._by_name.setdefault(_composed(frame.name), []).append(frame)

    def find(self, names: Iterable[str]) -> 'Path | str':
        """Return the frame of the first name that is one's, or why there is none."""
        paths = [PurePosixPath(_composed(name).replace('\\', '/')) for name in names]
        called = [(path, self._by_name.get(path.name, ())) for path in paths]
        called += [(path, self._by_key.get(key, ())) for path in paths for key in _keys(path)]
        others: set[Path] = set()
        reason = ''
        for path, so in called:
            # One that a path has ruled out is not meant by a bare name either.
            if frames := [frame for frame in so if frame not in others]:
                found = self._in_folder(path, frames)
                if isinstance(found, Path):
                    return found
                reason = reason or found
                others.update(frames)
        return reason or (
            f'no frame is called so{did_you_mean_frame(paths[0].name, self._by_name)}')

    def _in_folder(self, path: PurePosixPath, frames: Sequence[Path]) -> 'Path | str':
        """Return which of some frames of a name is meant by a path, or why none is."""
        said = path.parts[:-1]
        fit = {frame: _common(said, self._below(frame)) for frame in frames
               if _agree(said, self._below(frame))}
        nearest = [frame for frame, common in fit.items() if common == max(fit.values())]
        if len(nearest) == 1:
            return nearest[0]
        several = first_few([_shown(frame, self._root) for frame in nearest or frames])
        if nearest:
            return f'several frames are called so ({several}), and it does not say which it is'
        return (f'the frames of that name are in other folders ({several}); where one of these is '
                'meant, name its own folder for the frames')

    def _below(self, frame: Path) -> tuple[str, ...]:
        """Return the folders below the root that a frame is in."""
        if self._root is None:
            return ()
        return PurePosixPath(_composed(frame.relative_to(self._root).as_posix())).parts[:-1]


def did_you_mean_frame(name: str, frames: Collection[str]) -> str:
    """
    Return a question after the frame that a name most likely means, '' where none is like it.

    `univseg frames` puts a folder's name and - before those of its pictures. Of others, those are
    like it that have the same numbers: frames are counted by them.
    """
    key = _key(name)
    extracted = [frame for frame in frames if _key(frame).endswith(f'-{key}')]
    if extracted:
        they_are = 'names' if len(extracted) > 1 else 'a name'
        return (f'; did you mean {first_few(extracted)}, {they_are} that the command frames '
                'gives?')
    numbers = re.findall('[0-9]+', key)
    return did_you_mean(name, [frame for frame in frames
                               if re.findall('[0-9]+', _key(frame)) == numbers])


def _key(name: str) -> str:
    """Return a name in small letters, without the ending of a picture."""
    return _keys(PurePosixPath(name))[-1].lower()


def _keys(path: PurePosixPath) -> list[str]:
    """Return a path's name, and that without the ending, if it is one of pictures."""
    # What is behind the last dot of a name without an ending is a part of it.
    is_picture = path.suffix.lower() in IMAGE_SUFFIXES + OTHER_SUFFIXES
    return [path.name, path.stem] if is_picture else [path.name]


def _agree(some: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether folders that tell images apart are the same, as far as both go."""
    some, others = ([name for name in folders if name.lower() not in OF_TOOLS
                     and not name.endswith(':')] for folders in (some, others))
    return _common(some, others) == min(len(some), len(others))


def _common(some: Sequence[str], others: Sequence[str]) -> int:
    """Return how many folders two paths have in common, from the innermost on."""
    pairs = zip(reversed(some), reversed(others), strict=False)
    return len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])


def _shown(frame: Path, root: Path | None) -> str:
    return frame.relative_to(root).as_posix() if root else str(frame)


def _composed(name: str) -> str:
    return unicodedata.normalize('NFC', name)  # a Mac writes é as two characters
