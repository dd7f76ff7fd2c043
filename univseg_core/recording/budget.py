"""What the bags of a folder may take of the disk."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import shutil

from univseg_core.bags.bag_writer import BagWriter
from univseg_core.bags.metadata import leave_out_file, read_own_metadata
from univseg_core.bags.reading import METADATA

MEGABYTE = 10**6


@dataclass
class _File:
    """A file of a finished bag of the recorder's."""

    path: Path
    size: int


class Budget:
    """
    Keeps the bags of a folder below `max_size` bytes, and `min_free` bytes of its disk free.

    0 is no limit. Only the recorder's own finished bags and the one it writes (with what it holds
    back for its end) count, and only of these is anything dropped, if `drops_oldest`: the oldest
    file of the bag that was begun first, again and again.
    """

    def __init__(self, directory: Path, max_size: int = 0, min_free: int = 0,
                 drops_oldest: bool = False):
        self.dropped = 0
        """How many files were dropped."""
        self._directory = directory
        self._max_size = max_size
        self._min_free = min_free
        self._drops_oldest = drops_oldest
        self._files: list[_File] = []
        bags = [[folder / name for name in facts['relative_file_paths']]
                for folder in sorted(filter(Path.is_dir, directory.iterdir()))
                if (facts := read_own_metadata(folder))]
        # Rather than by its messages' times, which may be those of a simulation.
        for paths in sorted(bags, key=_written):
            for path in paths:
                self._add(path)

    @property
    def finished_size(self) -> int:
        """Return the bytes of the finished bags."""
        return sum(file.size for file in self._files)

    def take_over(self, bag: BagWriter) -> None:
        """Count a bag that has been closed."""
        for path, _ in bag.finished:
            self._add(path)

    def make_room(self, size: int, bag: BagWriter | None) -> str:
        """
        Make room for so many bytes; return why there is none, or an empty text.

        `bag` is the one that is being written. Raises OSError where the disk cannot be asked.
        """
        while reason := self._lack(size, bag):
            there = [file for file in self._files if file.path.is_file()]
            if len(there) < len(self._files):  # somebody has made room
                self._files = there
                continue
            if not self._drops_oldest:
                return reason
            if not self._drop(bag):
                return f'{reason}; there is nothing older to drop'
        return ''

    def _lack(self, size: int, bag: BagWriter | None) -> str:
        used = self.finished_size + (bag.total_size + bag.reserve if bag else 0)
        if self._max_size and used + size > self._max_size:
            return (f'the bags in {self._directory} have {used / MEGABYTE:.0f} MB; max_size is '
                    f'{self._max_size / MEGABYTE:.0f} MB')
        free = shutil.disk_usage(self._directory).free
        if free - size < self._min_free:
            return (f'the disk of {self._directory} has {free / MEGABYTE:.0f} MB left; min_free '
                    f'is {self._min_free / MEGABYTE:.0f} MB')
        return ''

    def _drop(self, bag: BagWriter | None) -> bool:
        while self._files:
            if _drop_from_finished_bag(self._files.pop(0).path):
                break
        else:
            if not (bag and bag.drop_oldest()):
                return False
        self.dropped += 1
        return True

    def _add(self, path: Path) -> None:
        if path.is_file():
            self._files.append(_File(path, path.stat().st_size))


def _written(paths: list[Path]) -> float:
    """Return when the first of a bag's files that is there was written."""
    return min((path.stat().st_mtime for path in paths if path.is_file()), default=0.0)


def _drop_from_finished_bag(path: Path) -> bool:
    """
    Remove a file; return False where its bag's metadata is not the recorder's any more.

    At any moment, the metadata names only files that are there.
    """
    facts = read_own_metadata(path.parent)
    if not facts or path.name not in facts['relative_file_paths']:
        return False
    if facts['relative_file_paths'] != [path.name]:
        leave_out_file(path.parent, facts, path.name, _counts(path))
        path.unlink(missing_ok=True)
        return True
    (path.parent / METADATA).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with suppress(OSError):  # where there is something that is not ours
        path.parent.rmdir()
    return True


def _counts(path: Path) -> dict[str, int]:
    from rosbags.rosbag2 import Reader, ReaderError
    try:
        with Reader(path) as reader:
            return {connection.topic: connection.msgcount for connection in reader.connections}
    except ReaderError:  # damaged since
        return {}
