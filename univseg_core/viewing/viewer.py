"""One thread that reads frames and runs the model, and the last few of its results."""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from univseg_core.errors import UnivsegError
from univseg_core.inference.segmenter import Segmenter
from univseg_core.viewing.frames import DroppedPictures, Frames, open_frames
from univseg_core.viewing.looks import HEAD, see, Seen

KEPT = 8
"""Results that are kept: some 20 MB each of two domains at the largest size."""


@dataclass(frozen=True)
class Found:
    """
    The frame that was found, and those that were passed over on the way, each with the reason.

    `index` is its number, None where there was none in that direction.
    """

    index: int | None
    seen: Seen | None
    skipped: list[str] = field(default_factory=list)


class Viewer:
    """
    A model and the frames that it looks at: `given` ones, or None, and `dropped` ones.

    Frames are read and looked at in one thread of its own, so that whoever asks can go on; it is
    to be used as a context manager. Opening raises as `open_frames` does.
    """

    def __init__(self, segmenter: Segmenter, paths: Sequence[Path] = (),
                 topics: Sequence[str] = ()):
        self.segmenter = segmenter
        self.dropped = DroppedPictures()
        self._kept: OrderedDict[tuple[int, int, str], Seen] = OrderedDict()
        self._opened = ExitStack()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix='viewer')
        self.given: Frames | None = None
        if paths:
            try:
                self.given = self._thread.submit(
                    self._opened.enter_context, open_frames(paths, topics)).result()
            except BaseException:
                self._thread.shutdown()
                raise

    def __enter__(self) -> 'Viewer':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._thread.submit(self._opened.close)
        self._thread.shutdown(cancel_futures=False)

    def find(self, frames: Frames, index: int, step: int = 1, by: str = HEAD) -> 'Future[Found]':
        """
        Begin to look at a frame, or at the next behind it that can be read, by `step` ±1.

        `by` is what tells the classes, as for `see`.
        """
        return self._thread.submit(self._find, frames, index, step, by)

    def _find(self, frames: Frames, index: int, step: int, by: str) -> Found:
        skipped: list[str] = []
        while index >= 0:
            try:
                return Found(index, self._look_at(frames, index, by), skipped)
            except IndexError:
                break
            except UnivsegError as error:
                skipped.append(str(error))
            index += step
        return Found(None, None, skipped)

    def _look_at(self, frames: Frames, index: int, by: str) -> Seen:
        key = id(frames), index, by
        if key not in self._kept:
            self._kept[key] = see(self.segmenter, *frames.read(index), by)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
