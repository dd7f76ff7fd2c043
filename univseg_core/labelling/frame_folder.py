"""The frames of a folder, and their images one by one, whatever some of them are like."""

from collections.abc import Iterator, Sequence
import logging
from pathlib import Path

import numpy as np
from univseg_core.datasets.folders import DataError, list_images, unread_pictures
from univseg_core.pictures.images import ImageError, read_image
from univseg_core.progress import progress_bar

log = logging.getLogger(__name__)


def readable_images(paths: Sequence[Path], title: str) -> Iterator[tuple[Path, np.ndarray]]:
    """
    Yield each image file that can be read with its image; say of the others why not.

    A progress bar counts them. Raises DataError in the end where none can be read.
    """
    skipped = 0
    for path in progress_bar(paths, title):
        try:
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

    Raises DataError where it is not there or has none.
    """
    if not path.is_dir():
        raise DataError(f'{path}: no such folder')
    images = list_images(path)
    if unread := unread_pictures(path):
        log.warning(unread)
    return images
