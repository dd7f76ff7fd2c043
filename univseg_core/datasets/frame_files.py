"""The files of frames, and their rows in the manifest."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
import os
from pathlib import Path

import cv2
import numpy as np
from univseg_core.datasets.frame_choice import ExtractionSettings, UNREADABLE
from univseg_core.datasets.manifest import KEPT, Manifest, Row
from univseg_core.errors import told_with
from univseg_core.files import replacing
from univseg_core.machine.processors import cpu_cores
from univseg_core.pictures.images import decode_image, ImageError, resize_image

FolderOf = Callable[[np.ndarray], str]
"""Names the folder of a frame by its image (H, W, 3) uint8 RGB."""


class Writer:
    """
    Encodes and writes frames in threads, and their rows in order behind them.

    `stem` names the frame of a row, without ending. `written` is told of each row that stands in
    the manifest. `folder_of` names the folder in `folder` that a frame is written into; without
    it, that is `folder` itself.
    """

    def __init__(self, folder: Path, settings: ExtractionSettings, manifest: Manifest,
                 stem: Callable[[Row], str], written: Callable[[Row], None],
                 folder_of: FolderOf | None = None):
        self._folder = folder
        self._settings = settings
        self._manifest = manifest
        self._stem = stem
        self._written = written
        self._folder_of = folder_of
        # On one core, a frame that waits only leaves the CPU's cache.
        self._most = 2 * (cpu_cores() - 1)
        self._pool = ThreadPoolExecutor(cpu_cores())
        self._pending: deque[tuple[Row, Future | None]] = deque()

    def __enter__(self) -> 'Writer':
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def lacks(self, row: Row) -> bool:
        """Return whether a frame of an earlier call was left empty, as by a power cut."""
        path = self._folder / row.file
        return row.outcome == KEPT and path.is_file() and not path.stat().st_size

    def write_anew(self, row: Row, frame: bytes | np.ndarray | None) -> None:
        """Write the frame of an earlier call's row, if it can still be had."""
        if frame is not None:
            self._write(row, frame)

    def write(self, row: Row, frame: bytes | np.ndarray | None) -> None:
        """Begin to write a frame, if there is one, and then its row."""
        future = None
        if frame is not None:
            try:
                row = replace(row, file=self._free_name(row, frame))
            except ImageError as error:  # only its beginning was looked at before
                row = replace(row, outcome=f'{UNREADABLE}: {" ".join(str(error).split())}')
            else:
                future = self._pool.submit(self._write, row, frame)
        self._pending.append((row, future))
        self._finish(self._most)

    def _finish(self, most: int) -> None:
        """Write rows, until at most so many wait for their frames."""
        while self._pending and (len(self._pending) > most or self._is_done(self._pending[0][1])):
            row, future = self._pending.popleft()
            if future:
                future.result()
            self._manifest.append(row)
            self._written(row)

    @staticmethod
    def _is_done(future: Future | None) -> bool:
        return future is None or future.done()

    def _subfolder(self, row: Row, frame: bytes | np.ndarray) -> str:
        """Return what a frame's name begins with: its folder and a slash, or nothing."""
        if self._folder_of is None:
            return ''
        image = decode_image(frame) if isinstance(frame, bytes) else frame[..., ::-1]
        with told_with(f'{row.bag}: {row.topic} at {row.stamp}'):
            return f'{self._folder_of(image)}/'

    def _free_name(self, row: Row, frame: bytes | np.ndarray) -> str:
        stem = f'{self._subfolder(row, frame)}{self._stem(row)}'
        name, number = f'{stem}.{self._settings.codec}', 1
        # Cameras repeat stamps, and the time of simulations begins anew in every bag.
        while name in self._manifest.files or self._is_of_others(name, row, frame):
            number += 1
            name = f'{stem}-{number}.{self._settings.codec}'
        self._manifest.files.add(name)
        return name

    def _is_of_others(self, name: str, row: Row, frame: bytes | np.ndarray) -> bool:
        """Return whether a name is taken, but not by a copy of the frame or an empty file."""
        path = self._folder / name
        if not os.path.lexists(path):
            return False
        # A call that was killed leaves frames without rows.
        return (path.is_symlink() or not path.is_file()
                or path.read_bytes() not in (b'', self._encoded(row, frame)))

    def _write(self, row: Row, frame: bytes | np.ndarray) -> None:
        data = self._encoded(row, frame)
        with replacing(self._folder / row.file, durable=False) as temporary:
            temporary.write_bytes(data)

    def _encoded(self, row: Row, frame: bytes | np.ndarray) -> bytes:
        """Return the bytes of a frame's file."""
        if isinstance(frame, bytes):
            return frame
        picture = resize_image(frame, row.height, row.width)
        options = {'jpg': [cv2.IMWRITE_JPEG_QUALITY, self._settings.quality], 'png': []}
        _, data = cv2.imencode(f'.{self._settings.codec}', picture,
                               options[self._settings.codec])
        return data.tobytes()
