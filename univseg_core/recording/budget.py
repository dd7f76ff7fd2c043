"""What the bags of a folder may take of the disk."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import shutil

from univseg_core.data.bags import METADATA
from univseg_core.recording.bag_writer import BagWriter
from univseg_core.recording.metadata import leave_out_file, read_own_metadata

MEGABYTE = 10**6


@dataclass
class _File:
    """A file of a finished bag of the recorder's."""

    path: Path
    size: int


class Budget:
    """
    Keeps the bags of a folder below `max_size` bytes, and `min_free` bytes of its disk free.

    0 is no limit. Only the recorder's own finished bags and the one it writes count, and only of
    these is anything dropped, if `drops_oldest`: the oldest file of the oldest bag, again and
    again.
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
        bags = [(facts['starting_time']['nanoseconds_since_epoch'], folder, facts)
                for folder in sorted(filter(Path.is_dir, directory.iterdir()))
                if (facts := read_own_metadata(folder))]
        for _, folder, facts in sorted(bags, key=lambda bag: bag[0]):
            for name in facts['relative_file_paths']:
                self._add(folder / name)

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
            if not self._drops_oldest:
                return reason
            if not self._drop(bag):
                return f'{reason}; there is nothing older to drop'
        return ''

    def _lack(self, size: int, bag: BagWriter | None) -> str:
        used = self.finished_size + (bag.total_size if bag else 0)
        if self._max_size and used + size > self._max_size:
            return (f'the bags in {self._directory} have {used / MEGABYTE:.0f} MB; max_size is '
                    f'{self._max_size / MEGABYTE:.0f} MB')
        free = shutil.disk_usage(self._directory).free
        if free - size < self._min_free:
            return (f'the disk of {self._directory} has {free / MEGABYTE:.0f} MB left; min_free '
                    f'is {self._min_free / MEGABYTE:.0f} MB')
        return ''

    def _drop(self, bag: BagWriter | None) -> bool:
        if self._files:
            _drop_from_finished_bag(self._files.pop(0).path)
        elif not (bag and bag.drop_oldest()):
            return False
        self.dropped += 1
        return True

    def _add(self, path: Path) -> None:
        if path.is_file():
            self._files.append(_File(path, path.stat().st_size))


def _drop_from_finished_bag(path: Path) -> None:
    """Remove a file; at any moment, the bag's metadata names only files that are there."""
    facts = read_own_metadata(path.parent)
    if facts and facts['relative_file_paths'] != [path.name]:
        leave_out_file(path.parent, facts, path.name, _counts(path))
        path.unlink(missing_ok=True)
        return
    (path.parent / METADATA).unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    with suppress(OSError):  # where there is something that is not ours, or nothing any more
        path.parent.rmdir()


def _counts(path: Path) -> dict[str, int]:
    from rosbags.rosbag2 import Reader, ReaderError
    try:
        with Reader(path) as reader:
            return {connection.topic: connection.msgcount for connection in reader.connections}
    except ReaderError:  # damaged since
        return {}
