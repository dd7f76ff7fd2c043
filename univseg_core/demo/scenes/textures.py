"""
Textures of the synthetic worlds.

A texture takes where pixels lie on their faces and returns how much of the face's second colour
shows there, (P,) in 0..1. Colours are drawn at random, so these patterns and the shapes that wear
them are what tells the classes apart.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np


class Spots(NamedTuple):
    """
    Where pixels lie on their faces, each field (P,).

    `u` and `v` count texture cells from the lower left corner, `face` is the index of the face,
    `sharp` falls from 1 to 0 where a cell becomes too small in the picture to show detail.
    """

    u: np.ndarray
    v: np.ndarray
    face: np.ndarray
    sharp: np.ndarray


Texture: TypeAlias = Callable[[Spots], np.ndarray]


def make_noise() -> np.ndarray:
    """Return tileable value noise (1024, 1024) float32, 0..1: five octaves from 32 cells on."""
    rng = np.random.default_rng(5)
    total = np.zeros((1024, 1024), np.float32)
    for octave in range(5):
        cells = rng.random((32 << octave, 32 << octave), np.float32)
        step = 1024 // len(cells)
        around = cv2.resize(np.pad(cells, 2, mode='wrap'), None, fx=step, fy=step,
                            interpolation=cv2.INTER_CUBIC)
        total += around[2 * step:-2 * step, 2 * step:-2 * step] / 2 ** octave
    total -= total.min()
    return total / total.max()


NOISE = make_noise().ravel()
WHITE = np.random.default_rng(6).random(4096, np.float32)


def noise(spots: Spots, scale: float = 1.0) -> np.ndarray:
    """Return smooth noise, 0..1 around 0.5, with features about a cell wide divided by scale."""
    column = (spots.u * (32 * scale)).astype(np.int32) + spots.face * 197
    row = (spots.v * (32 * scale)).astype(np.int32) + spots.face * 131
    return NOISE[((row & 1023) << 10) + (column & 1023)]


def chance(column: np.ndarray, row: np.ndarray, salt: np.ndarray) -> np.ndarray:
    """Return a random number 0..1 for each cell."""
    cell = column.astype(np.int32) * 73 + row.astype(np.int32) * 1579 + salt * 31
    return WHITE[(cell ^ (cell >> 5)) & 4095]


def fraction(x: np.ndarray) -> np.ndarray:
    """Return the part after the decimal point."""
    return x - np.floor(x)


def inside(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 1 where x lies between two bounds, else 0."""
    return ((x >= low) & (x <= high)).astype(np.float32)


def stripes(x: np.ndarray, width: float) -> np.ndarray:
    """Return 1 on the first `width` of each unit, else 0."""
    return inside(fraction(x), 0, width)


def joints(u: np.ndarray, v: np.ndarray, width: float) -> np.ndarray:
    """Return 1 on the lines between cells, `width` of a cell wide, else 0."""
    return np.maximum(stripes(u, width), stripes(v, width))


def clumps(scale: float, threshold: float, steepness: float) -> Texture:
    """Return a texture of blots: where smooth noise of a scale exceeds a threshold."""
    return lambda spots: np.clip((noise(spots, scale) - threshold) * steepness, 0, 1)


def plain(spots: Spots) -> np.ndarray:
    """Mix a faint cloudiness."""
    return 0.3 * noise(spots)


def speckle(spots: Spots) -> np.ndarray:
    """Mix grains and large stains."""
    grains = chance(spots.u * 9, spots.v * 9, spots.face)
    return 0.55 * noise(spots, 0.25) + 0.45 * (0.5 + (grains - 0.5) * spots.sharp)


def tiles(spots: Spots) -> np.ndarray:
    """Mix square tiles with dark joints, each tile of its own tone."""
    tone = 0.4 * chance(spots.u, spots.v, spots.face)
    return np.maximum(tone, spots.sharp * joints(spots.u, spots.v, 0.09))


def rounded(spots: Spots) -> np.ndarray:
    """Mix the shading of a cylinder."""
    return np.clip(np.abs(fraction(spots.u) - 0.4) * 1.8, 0, 1)


# Outdoors


def clear_sky(spots: Spots) -> np.ndarray:
    """Mix the glow above the horizon, which lies half-way up the sky's eight cells."""
    return np.clip(1 - (spots.v - 4) * 0.45, 0, 1)


def clouds(spots: Spots) -> np.ndarray:
    """Mix flat clouds into a clear sky."""
    bank = noise(spots._replace(v=spots.v * 2), 0.9)
    return np.clip(clear_sky(spots) * 0.7 + np.clip((bank - 0.48) * 5, 0, 1), 0, 1)


def overcast(spots: Spots) -> np.ndarray:
    """Mix a closed layer of soft clouds."""
    bank = noise(spots._replace(v=spots.v * 1.7), 0.7)
    return np.clip(0.5 * clear_sky(spots) + 1.6 * bank - 0.5, 0, 1)


def slabs(spots: Spots) -> np.ndarray:
    """Mix oblong slabs in courses."""
    return tiles(spots._replace(u=spots.u * 0.5 + 0.5 * (np.floor(spots.v) % 2)))


worn = clumps(0.7, 0.45, 3)  # road paint
leaves = clumps(1.3, 0.38, 3.5)


def grass(spots: Spots) -> np.ndarray:
    """Mix tufts and blades."""
    blades = chance(spots.u * 14, spots.v * 7, spots.face)
    return 0.7 * np.clip((noise(spots) - 0.35) * 3, 0, 1) + 0.3 * blades * spots.sharp


def window(spots: Spots, left: float, low: float, high: float) -> np.ndarray:
    """Mix a glazed window in each cell, some panes lighter than others."""
    column, row = fraction(spots.u), fraction(spots.v)
    pane = inside(column, left, 1 - left) * inside(row, low, high)
    frame = inside(np.abs(column - 0.5), 0, 0.03)
    tone = 0.65 + 0.35 * chance(spots.u, spots.v, spots.face)
    return pane * tone * (1 - 0.6 * frame)


def brick_facade(spots: Spots) -> np.ndarray:
    """Mix courses of bricks and a window in each cell."""
    course = spots.v * 9
    wall = joints(spots.u * 5 + 0.5 * (np.floor(course) % 2), course, 0.18) * spots.sharp
    wall = 0.25 * wall + 0.15 * noise(spots, 3)
    return np.maximum(wall, window(spots, 0.27, 0.28, 0.8))


def office_facade(spots: Spots) -> np.ndarray:
    """Mix bands of glass."""
    return np.maximum(0.12 * noise(spots), window(spots, 0.06, 0.35, 0.85))


def shop_facade(spots: Spots) -> np.ndarray:
    """Mix plaster with windows above large shop windows."""
    shop = (spots.v < 1) * window(spots, 0.1, 0.12, 0.75)
    return np.maximum(np.maximum(0.2 * noise(spots, 2), shop),
                      (spots.v >= 1) * window(spots, 0.3, 0.2, 0.75))


def pickets(spots: Spots) -> np.ndarray:
    """Mix upright boards with dark gaps."""
    gap = stripes(spots.u, 0.35) * (0.4 + 0.6 * spots.sharp)
    rail = np.maximum(inside(fraction(spots.v), 0.2, 0.3), inside(fraction(spots.v), 0.7, 0.8))
    return np.maximum(gap * (1 - rail), 0.2 * noise(spots, 2))


def rails(spots: Spots) -> np.ndarray:
    """Mix lengthwise boards with dark gaps and posts."""
    post = stripes(spots.u / 6, 0.08)
    return stripes(spots.v * 4, 0.4) * (1 - post) * 0.9


def mesh(spots: Spots) -> np.ndarray:
    """Mix a diagonal grid."""
    u, v = spots.u, spots.v * 4
    return 1 - spots.sharp * joints(u + v, u - v, 0.3)


def glyphs(spots: Spots) -> np.ndarray:
    """Mix blocks like writing or symbols."""
    u, v = spots.u * 3, spots.v * 2
    ink = chance(u, v, spots.face) > 0.45
    return ink * inside(fraction(v), 0.25, 0.8) * inside(fraction(u), 0.05, 0.95)


def bands(spots: Spots) -> np.ndarray:
    """Mix rings around a post."""
    return stripes(spots.v / 2, 0.5)


def hub(spots: Spots) -> np.ndarray:
    """Mix a wheel's disc."""
    radius = np.hypot(fraction(spots.u) - 0.5, fraction(spots.v) - 0.5)
    return inside(radius, 0, 0.26)


# Indoors


def planks(spots: Spots) -> np.ndarray:
    """Mix boards of different tone with joints and grain."""
    row = spots.v * 2.5
    u = spots.u * 0.4 + chance(np.zeros_like(row), row, spots.face)
    gap = np.maximum(stripes(row, 0.08), stripes(u, 0.015))
    tone = 0.5 * chance(u, row, spots.face)
    grain = noise(spots._replace(u=spots.u * 0.3, v=row), 2)
    return np.maximum(tone + 0.3 * grain, gap * spots.sharp)


def chequers(spots: Spots) -> np.ndarray:
    """Mix squares of two colours in turn."""
    odd = (np.floor(spots.u) + np.floor(spots.v)) % 2
    return np.clip(odd * 0.8 + 0.2 * noise(spots), 0, 1)


def panels(spots: Spots) -> np.ndarray:
    """Mix the grid of a suspended ceiling with perforated panels."""
    holes = chance(spots.u * 12, spots.v * 12, spots.face) > 0.8
    return np.maximum(0.3 * holes * spots.sharp, joints(spots.u, spots.v, 0.06))


def beams(spots: Spots) -> np.ndarray:
    """Mix broad beams."""
    return np.maximum(stripes(spots.v, 0.25), 0.15 * noise(spots))


def wallpaper(spots: Spots) -> np.ndarray:
    """Mix upright stripes."""
    return stripes(spots.u, 0.5) * (0.6 + 0.4 * noise(spots))


plaster = clumps(2, 0.3, 1.5)


def wall_tiles(spots: Spots) -> np.ndarray:
    """Mix bricks or oblong tiles."""
    row = spots.v * 2
    return joints(spots.u + 0.5 * (np.floor(row) % 2), row, 0.1) * spots.sharp


def door_panels(spots: Spots) -> np.ndarray:
    """Mix the outlines of six panels sunk into a door."""
    u, v = fraction(spots.u * 2), fraction(spots.v * 3)
    return (inside(u, 0.14, 0.86) * inside(v, 0.14, 0.86)
            - inside(u, 0.21, 0.79) * inside(v, 0.21, 0.79))


def door_boards(spots: Spots) -> np.ndarray:
    """Mix a door of upright boards."""
    return np.maximum(stripes(spots.u * 5, 0.12), 0.15 * noise(spots, 3))


def door_glass(spots: Spots) -> np.ndarray:
    """Mix a door with a pane above a panel."""
    return inside(spots.u, 0.2, 0.8) * np.maximum(inside(spots.v, 0.5, 0.9),
                                                  0.5 * inside(spots.v, 0.1, 0.4))


def landscape(spots: Spots) -> np.ndarray:
    """Mix hills under a sky."""
    skyline = 0.25 + 0.4 * noise(spots._replace(v=np.zeros_like(spots.v)), 4)
    ground = spots.v < skyline
    return np.where(ground, 0.75 + 0.25 * noise(spots, 6), 0.25 * spots.v).astype(np.float32)


def blind(spots: Spots) -> np.ndarray:
    """Mix the slats of a blind."""
    return stripes(spots.v, 0.3) * 0.7


abstract = clumps(3, 0.45, 12)


def mosaic(spots: Spots) -> np.ndarray:
    """Mix a mosaic."""
    return chance(spots.u * 3, spots.v * 4, spots.face)


def drawers(spots: Spots) -> np.ndarray:
    """Mix a front and a handle in each cell."""
    u, v = fraction(spots.u), fraction(spots.v)
    seam = 1 - inside(u, 0.03, 0.97) * inside(v, 0.05, 0.95)
    return np.maximum(np.maximum(seam, inside(u, 0.38, 0.62) * inside(v, 0.6, 0.72)),
                      0.15 * noise(spots, 2))


def books(spots: Spots) -> np.ndarray:
    """Mix the backs of books on shelves."""
    spine, row = spots.u * 22, fraction(spots.v)
    tall = 0.6 + 0.35 * chance(spine, spots.v, spots.face)
    tone = 0.15 + 0.7 * chance(spine + 7, spots.v, spots.face)
    return np.where(row < 0.12, 0, np.where(row < tall, tone, 1)).astype(np.float32)


def carton(spots: Spots) -> np.ndarray:
    """Mix tape over the middle and a printed label."""
    tape = inside(spots.u, 0.43, 0.57)
    label = inside(spots.u, 0.65, 0.9) * inside(spots.v, 0.15, 0.4)
    return np.maximum(np.maximum(0.6 * tape, label), 0.15 * noise(spots, 3))


def diffuser(spots: Spots) -> np.ndarray:
    """Mix the ribs of a lamp's cover."""
    return stripes(spots.u, 0.3) * spots.sharp
