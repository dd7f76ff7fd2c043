"""
Figures drawn by Pillow, as labelme and the scripts of Cityscapes draw them.

A corner is the pixel that it lies in, and borders count as inside. So masks have the pixels that
the tools' own exports have; `regions.Polygons`, which asks where pixels' centres lie, would be
half a pixel smaller all around.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from univseg_core.annotations.polygon_pixels import clipped
from univseg_core.annotations.regions import AnnotationError, check_reaches, Ring
from univseg_core.domains import IGNORE_INDEX

LINE_WIDTH, POINT_RADIUS = 10, 5
"""Pixels, of what has no area: labelme's."""

LARGEST_CIRCLE = 1 << 16
"""Its radius in pixels."""

Figure = Literal['polygon', 'rectangle', 'circle', 'line', 'point']


@dataclass(frozen=True)
class Drawn:
    """
    A figure by its points (n, 2) in pixels, less the polygons `holes`.

    Of a rectangle they are two corners, of a circle its centre and a point of it. `outline` says
    whether a polygon's border is drawn as well as what is in it. What lies outside of the image
    is cut off; where all does, its mask is an error.
    """

    points: Ring
    figure: Figure = 'polygon'
    outline: bool = True
    holes: tuple[Ring, ...] = ()

    def mask(self, height: int, width: int) -> np.ndarray:
        """Return which pixels it covers; see `regions.Shape`."""
        picture = Image.new('L', (width, height))
        draw = ImageDraw.Draw(picture)
        # Pillow goes along borders pixel by pixel, and keeps corners in 32 bits.
        if self.figure == 'polygon':
            near = clipped(self.points, height, width)
            if len(near) > 1:
                draw.polygon(_corners(near), fill=1, outline=1 if self.outline else None)
        elif self.figure == 'rectangle':
            near = np.clip(self.points, (-width, -height), (2 * width, 2 * height))
            draw.rectangle([*near.min(0), *near.max(0)], fill=1, outline=1)
        elif self.figure == 'line':
            for part in _parts(self.points, height, width):
                draw.line(_corners(part), fill=1, width=LINE_WIDTH)
        else:
            draw.ellipse(self._box(), fill=1, outline=1)
        if not picture.getbbox():
            check_reaches(self._reach(), height, width)
        for hole in self.holes:
            if len(near := clipped(hole, height, width)) > 1:
                draw.polygon(_corners(near), fill=0, outline=0)
        return np.array(picture, bool)

    def _reach(self) -> Ring:
        """Return points whose box contains all that is drawn."""
        if self.figure in ('circle', 'point'):
            return np.array(self._box()).reshape(2, 2)
        return self.points

    def _box(self) -> list[float]:
        """Return left, top, right and bottom of a circle, or of a point."""
        x, y = self.points[0]
        radius = POINT_RADIUS if self.figure == 'point' else np.hypot(
            *(self.points[0] - self.points[1]))
        if max(abs(x), abs(y), radius) > LARGEST_CIRCLE:
            raise AnnotationError(f'a circle of radius {radius:.0f} at ({x:.0f}, {y:.0f}); '
                                  f'expected {LARGEST_CIRCLE} pixels at most')
        return [x - radius, y - radius, x + radius, y + radius]


def drawn_classes(outlines: Iterable[tuple[int, Ring]], height: int, width: int) -> np.ndarray:
    """Return the classes (H, W) uint8 of polygons drawn one over another, 255 where none is."""
    picture = Image.new('L', (width, height), IGNORE_INDEX)
    draw = ImageDraw.Draw(picture)
    for index, ring in outlines:
        draw.polygon(_corners(ring), fill=index, outline=index)
    return np.array(picture)


def _parts(points: Ring, height: int, width: int) -> list[Ring]:
    """Return a line, or its pieces near to an image where some of it lies far outside."""
    if clipped(points, height, width) is points:
        return [points]
    pieces = [clipped(points[i:i + 2], height, width) for i in range(len(points) - 1)]
    return [piece for piece in pieces if len(piece) > 1]


def _corners(points: Ring) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.tolist()]
