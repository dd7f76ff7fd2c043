"""Colours for classes that have none of their own."""

import colorsys
import zlib

APART = (
    '404040', '808060', '400040', '6080ff', '20009f', 'ff9fdf', 'bfbf9f', '80bf20',
    '9fff80', '60609f', '800000', '9f6000',
    'ff9f80', 'df0060', '20dfff', '006000', 'ffbf20', '20bf9f', 'df00df', '208080',
    'ffff00', 'bfbfff', 'df4020', '009fdf', '404000', '402000', '806060', 'bfffdf',
    '8000ff', '006080', '809f9f', '004040', '804080', '002040', '002000', '608000',
    'df8020', '9f809f', '800040', 'dfbfbf')
"""
Any two of these, black and white differ by 15 at least in CIELAB and by CIEDE2000.

The first `SAFE`, black and white differ by 14 at least for eyes without one of the three kinds of
cones, too, as three simulations show them: those of Machado (2009), of Brettel (1997), and of
Viénot (1999) with its kin for the third kind. They were found by a search for the set whose
smallest difference is largest.
"""

SAFE = 12


def distinct_colours(count: int, name: str = '') -> list[tuple[int, int, int]]:
    """
    Return `count` RGB colours (0..255) that eyes tell apart; no two are the same.

    They are of `APART`: up to 12 for colour-blind eyes, too. Beyond 40, others follow, which are
    not all well apart. `name` decides which come first, so that two domains have different ones.
    """
    pool = APART[:SAFE] if count <= SAFE else APART
    order = sorted(pool, key=lambda colour: zlib.crc32(f'{name} {colour}'.encode()))
    colours = [(int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in order][:count]
    i = 0
    while len(colours) < count:
        colour = _by_golden_ratio(i)
        i += 1
        if colour not in colours:
            colours.append(colour)
    return colours


def _by_golden_ratio(i: int) -> tuple[int, int, int]:
    """Return the i-th of endlessly many colours, whose hues fill the circle evenly."""
    saturation, value = ((0.85, 0.95), (0.55, 0.75), (0.95, 0.6))[i % 3]
    red, green, blue = colorsys.hsv_to_rgb(i * 0.618034 % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
