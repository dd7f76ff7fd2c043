"""Regions → a label map."""

from collections.abc import Mapping

import numpy as np
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError
from univseg_core.domains import IGNORE_INDEX


def painted(image: AnnotatedImage, height: int, width: int, index_of: Mapping[str, int],
            background: int = IGNORE_INDEX) -> np.ndarray:
    """
    Return the classes (H, W) uint8 of an annotated image's pixels.

    `index_of` has the index of each region's label, 255 where it is void; what no region covers
    is `background`. Later regions are painted over earlier ones.

    Raises AnnotationError, which names file, image and object, for a size other than the one that
    the annotations are for, or a region that does not fit.
    """
    where = f'{image.source}: {image.image}'
    if image.size not in (None, (height, width)):
        raise AnnotationError(f'{where}: annotated at {image.size[1]}×{image.size[0]} pixels, but '
                              f'the frame is {width}×{height}')
    classes = np.full((height, width), background, np.uint8)
    for region in image.regions:
        try:
            classes[region.shape.mask(height, width)] = index_of[region.label]
        except AnnotationError as error:
            raise AnnotationError(f'{where}: {region.what} ({region.label}): {error}') from None
    return classes
