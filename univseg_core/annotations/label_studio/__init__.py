"""
What Label Studio exports, and tasks for it.

The package label-studio-sdk is not used: it needs opencv-python-headless, which collides with
opencv-python, and some thirty other packages.
"""

from collections.abc import Iterator
from pathlib import Path

from univseg_core.annotations.json_files import some_heads
from univseg_core.annotations.label_studio.png_folder import is_png_folder, read_pngs
from univseg_core.annotations.label_studio.tasks import is_export, read_tasks
from univseg_core.annotations.regions import AnnotatedImage


def recognises(path: Path) -> bool:
    """Return whether a file, or some JSON file or PNGs of a folder, are of an export."""
    return is_png_folder(path) or any(map(is_export, some_heads(path)))


def read(path: Path) -> Iterator[AnnotatedImage]:
    """
    Return the images of an export: JSON, JSON-MIN, or a folder of PNGs with one of these.

    Raises AnnotationError, which names file, task and result or PNG, for what is wrong with them;
    what comes behind it can still be read.
    """
    return read_pngs(path) if is_png_folder(path) else read_tasks(path)
