"""Regions → a label map."""

from collections.abc import Mapping, Sequence

import numpy as np
from univseg_core.annotations.drawn import Drawn
from univseg_core.annotations.problems import Problems
from univseg_core.annotations.regions import (
    AnnotatedImage,
    AnnotationError,
    Polygons,
    Ring,
    Shape,
)
from univseg_core.domains import IGNORE_INDEX
from univseg_core.errors import in_one_line, shortened


def painted(image: AnnotatedImage, height: int, width: int, index_of: Mapping[str, int],
            background: int = IGNORE_INDEX, empty: list[str] | None = None) -> np.ndarray:
    """
    Return the classes (H, W) uint8 of an annotated image's pixels.

    `index_of` has the index of each region's label, 255 where it is void; what no region covers
    is `background`. Later regions are painted over earlier ones. To `empty` is added, with file
    and image, which regions cover no pixel: tools write such slivers.

    Raises AnnotationError, which names file, image and all objects that are wrong, for a size
    other than the one that the annotations are for, or regions that do not fit, or lie outside.
    """
    where = f'{image.source}: {shown(image.image)}'
    if image.size not in (None, (height, width)):
        raise AnnotationError(f'{where}: annotated at {image.size[1]}×{image.size[0]} pixels, but '
                              f'the frame is {width}×{height}')
    classes = np.full((height, width), background, np.uint8)
    problems = Problems(image.source)
    for region in image.regions:
        what = f'{shown(image.image)}: {region.what} ({shown(region.label)})'
        try:
            mask = region.shape.mask(height, width)
        except AnnotationError as error:
            problems.add(f'{what}: {error}')
            continue
        classes[mask] = index_of[region.label]
        if not mask.any():
            if _is_outside(region.shape, height, width):
                problems.add(f'{what}: it lies outside of the image of {width}×{height} pixels')
            elif empty is not None:
                empty.append(f'{image.source}: {what}')
    problems.tell()
    return classes


def shown(name: str) -> str:
    """Return what a file calls something as messages have it: in one line, and not for ever."""
    return shortened(in_one_line(name), 200)


def _is_outside(shape: Shape, height: int, width: int) -> bool:
    """Return whether a shape that covers no pixel is beside the image, not just too thin."""
    if not (rings := _rings(shape)):
        return False
    corners = np.concatenate(rings)
    low, high = corners.min(0), corners.max(0)
    # What a tool has cut off at the border lies on it.
    before = (high <= 0) & (low < 0)
    behind = (low >= (width, height)) & (high > (width, height))
    return bool((before | behind).any())


def _rings(shape: Shape) -> Sequence[Ring]:
    """Return the corners of what has some: masks lie within their image."""
    if isinstance(shape, Polygons):
        return shape.outer
    return [shape.points] if isinstance(shape, Drawn) else []
