"""Models that several nodes of a process run, of which it has one in memory."""

from concurrent.futures import Future
from functools import partial
from pathlib import Path
import threading
from weakref import WeakKeyDictionary

from univseg_core.files import sha256_of
from univseg_core.inference.segmenter import Segmenter
from univseg_ros.background import in_background

_lock = threading.Lock()
_loaded: WeakKeyDictionary[Segmenter, tuple[tuple, Future]] = WeakKeyDictionary()
"""What has been handed out and is in use: what was asked for, and the file's SHA-256."""


def load_shared(path: Path, *, device: str, precision: str, inference_size: int | None,
                backend: str) -> tuple[Segmenter, Future]:
    """
    Return a segmenter of a model file, and the file's SHA-256, which another thread computes.

    Where one of the same file, device, precision and backend is in use, it is that one; of
    several calls at once, the first loads it. Backends are compared at that inference size,
    which is not the segmenter's afterwards. Raises as Segmenter.load does.
    """
    with _lock:
        wanted = (_identity(path), device, precision, backend)
        for segmenter, (asked, digest) in _loaded.items():
            if asked == wanted:
                return segmenter, digest
        segmenter = Segmenter.load(path, device=device, precision=precision,
                                   inference_size=inference_size, backend=backend)
        segmenter.inference_size = None  # by it, backends were compared; each frame has its own
        digest = in_background(partial(sha256_of, path))
        _loaded[segmenter] = wanted, digest
        return segmenter, digest


def _identity(path: Path) -> object:
    """Return what differs between two files, and between one and what replaces it."""
    try:
        found = path.stat()
    except OSError:
        return object()  # like no other: loading it tells what is wrong
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
