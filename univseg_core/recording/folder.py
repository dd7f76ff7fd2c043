"""The folder in which a recorder's bags are."""

from contextlib import ExitStack
import os
from pathlib import Path

from univseg_core.bags.bag_writer import finish_bag, is_unfinished
from univseg_core.bags.topics import RecordingError
from univseg_core.files import locked


class RecordingFolder:
    """
    A folder that one recorder holds until `close`; it is made where it is missing.

    Bags that a killed recorder left unfinished are finished: `finished` tells of them, `problems`
    of those with which that was not possible. Raises RecordingError where the folder cannot be
    written to or another recorder holds it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.finished: list[str] = []
        self.problems: list[str] = []
        self._stack = ExitStack()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(f'{path}: cannot be made: {error.strerror}') from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise RecordingError(f'{path}: cannot be written to')
        try:
            self._stack.enter_context(locked(path))
        except BlockingIOError as error:
            raise RecordingError(f'{path}: another recorder holds this folder') from error
        except OSError as error:  # a network file system that has no locks
            self.problems.append(f'{path}: cannot be locked ({error.strerror}); see that no other '
                                 'recorder writes there')
        try:
            for folder in sorted(filter(is_unfinished, path.iterdir())):
                self._finish(folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another recorder have the folder."""
        self._stack.close()

    def _finish(self, folder: Path) -> None:
        try:
            count, problems = finish_bag(folder)
        except (OSError, ValueError) as error:
            self.problems.append(f'{folder} was not finished when its recorder ended, and cannot '
                                 f'be now: {error}')
            return
        self.problems += [f'{folder} was not finished when its recorder ended; this file cannot '
                          f'be: {problem}' for problem in problems]
        if count or not problems:
            self.finished.append(f'{folder} was not finished when its recorder ended; it is now, '
                                 f'with {count} images' if count else
                                 f'{folder} was begun when its recorder ended, and held no image: '
                                 'it was removed')
