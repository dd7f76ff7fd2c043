"""Models that several nodes of a process run, of which it has one in memory."""

from pathlib import Path
import threading
from weakref import WeakKeyDictionary

from univseg_core.files import sha256_of
from univseg_core.inference.segmenter import Segmenter

_lock = threading.Lock()
_loaded: WeakKeyDictionary[Segmenter, tuple[tuple, str]] = WeakKeyDictionary()
"""What has been handed out and is in use: what was asked for, and the file's SHA-256."""


def load_shared(path: Path, *, device: str, precision: str, inference_size: int | None,
                backend: str) -> tuple[Segmenter, str]:
    """
    Return a segmenter of a model file, and the file's SHA-256.

    Where one of the same file, device, precision and backend is in use, it has the same model in
    memory, and an inference size of its own; of several calls at once, the first loads it.
    Raises as Segmenter.load does.
    """
    with _lock:
        wanted = (_identity(path), device, precision, backend)
        known = next((each for each in _loaded.items() if each[1][0] == wanted), None)
        if known:
            other, (_, digest) = known
            segmenter = other.sharing(inference_size)
        else:
            segmenter = Segmenter.load(path, device=device, precision=precision,
                                       inference_size=inference_size, backend=backend)
            digest = sha256_of(path)
        _loaded[segmenter] = wanted, digest
    return segmenter, digest


def _identity(path: Path) -> object:
    """Return what differs between two files, and between one and what replaces it."""
    try:
        found = path.stat()
    except OSError:
        return object()  # like no other: loading it tells what is wrong
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
