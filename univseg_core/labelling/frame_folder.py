"""The frames of a folder, and their images one by one; what cannot be read is told and skipped."""

from collections.abc import Container, Iterator, Sequence
import logging
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import (
    by_name,
    DataError,
    has_text_name,
    NO_TEXT_NAME,
    some_images,
    unread_pictures,
)
from univseg_core.errors import in_one_line
from univseg_core.pictures.images import ImageError, read_image
from univseg_core.pictures.picture_files import image_files, is_picture
from univseg_core.progress import progress_bar

log = logging.getLogger(__name__)


def readable_images(paths: Sequence[Path], title: str, known: Container[Path] = ()
                    ) -> Iterator[tuple[Path, np.ndarray]]:
    """
    Yield each image file that can be read, with its image; the log says of the others why not.

    A file whose name no list of results could hold counts as one that cannot be read; those that
    are `known` already are passed over, and count as read. A progress bar counts them all.

    Raises DataError in the end where none can be read.
    """
    skipped = 0
    for path in progress_bar(paths, title):
        if path in known:
            continue
        try:
            if not has_text_name(path):
                raise ImageError(f'{in_one_line(path)}: {NO_TEXT_NAME}')
            image = read_image(path)
        except ImageError as error:
            skipped += 1
            log.warning('%s; skipped', error)
            continue
        yield path, image
    if skipped == len(paths):
        raise DataError(f'none of {len(paths)} images can be read')
    if skipped:
        log.warning('%d of %d images cannot be read and are skipped', skipped, len(paths))


def frames_of(path: Path) -> list[Path]:
    """
    Return a folder's images; pictures of kinds that are not read are a warning.

    Raises DataError where it is not there or has none, and where two names differ only in their
    ending.
    """
    if not path.is_dir():
        raise DataError(f'{path}: no such folder')
    images = some_images(path)
    by_name(filter(has_text_name, images))
    if unread := unread_pictures(path):
        log.warning(unread)
    return images


def frames_below(path: Path, aside: Path) -> list[Path]:
    """
    Return a folder's images, or, where it has none itself, those of the folders in it.

    Those in the folder `aside`, if it is one of them, do not count. Those in several
    folders may be called alike. Raises DataError as `frames_of` does.
    """
    if not path.is_dir() or image_files(path):
        return frames_of(path)
    left_out = aside.resolve()
    below = sorted(file for file in path.rglob('*') if is_picture(file) and file.is_file()
                   and left_out not in file.resolve().parents)
    return below or some_images(path)
