"""Polygons with holes as one ring each, for formats that have no holes."""

import numpy as np
from univseg_core.annotations.outlines import Outline
from univseg_core.annotations.regions import Ring


def one_ring(outline: Outline) -> Ring:
    """
    Return an outline as a ring that goes through a slit of no width to each hole and back.

    It covers what the outline covers, for those who count how often a border goes round a pixel
    as for those who count its turns: holes are gone round the other way.
    """
    ring = _turned(outline.outer, 1)
    for hole in outline.holes:
        hole = _turned(hole, -1)
        hole = np.roll(hole, -int(hole[:, 0].argmin()), 0)
        at = int(((ring - hole[0])**2).sum(1).argmin())
        ring = np.concatenate([ring[:at + 1], hole, hole[:1], ring[at:]])
    return ring


def _turned(ring: Ring, sign: int) -> Ring:
    """Return a ring that goes round with x towards y, or against it."""
    x, y = (ring - ring[0]).T
    area = float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    return ring if area * sign > 0 else ring[::-1]
