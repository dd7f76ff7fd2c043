"""Regions → a label map."""

from collections.abc import Mapping

import numpy as np
from univseg_core.annotations.problems import Problems, quoted
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError
from univseg_core.domains import IGNORE_INDEX


def painted(image: AnnotatedImage, height: int, width: int, index_of: Mapping[str, int],
            background: int = IGNORE_INDEX, empty: list[str] | None = None) -> np.ndarray:
    """
    Return the classes (H, W) uint8 of an annotated image's pixels.

    `index_of` has the index of each region's label, 255 where it is void; what no region covers
    is `background`. Later regions are painted over earlier ones. To `empty` is added, with file
    and image, which regions cover no pixel: tools write such slivers.

    Raises AnnotationError, which names file, image and all objects that are wrong, for a size
    other than the one that the annotations are for, or a region that does not fit or lies outside
    of the image.
    """
    where = f'{image.source}: {quoted(image.image, 300)}'
    if image.size not in (None, (height, width)):
        raise AnnotationError(f'{where}: annotated at {image.size[1]}×{image.size[0]} pixels, but '
                              f'the frame is {width}×{height}')
    classes = np.full((height, width), background, np.uint8)
    problems = Problems(where)
    for region in image.regions:
        what = f'{region.what} ({quoted(region.label)})'
        try:
            mask = region.shape.mask(height, width)
        except AnnotationError as error:
            problems.add(f'{what}: {error}')
            continue
        if empty is not None and not mask.any():
            empty.append(f'{where}: {what}')
        np.copyto(classes, np.uint8(index_of[region.label]), where=mask)
    problems.tell()
    return classes
