"""Colours for classes that have none of their own."""

import colorsys
import zlib

APART = (
    '009f9f', '602000', 'df9f00', '200060', '406060', '60ffdf', '9f6020', '9f60ff', 'bfbfff',
    'ffff80', '9f9f80', '60409f',
    'ff6080', '008000', '00df00', '409fff', '80dfff', 'bf0060', '9f809f', 'ffbf9f', '204000',
    'df0000', 'ffbfdf', '600040', 'ff60df', '9f9f00', 'ff6000', '606040', '20bf80', '008060',
    '9f6060', '808080', '604040', 'bf00bf', 'bfdf9f', '9f0020', '0060ff', '004080', '00809f',
    '604000')
"""
Any two of these, black and white differ by 15 at least in CIELAB and by CIEDE2000.

So do the first `SAFE` for eyes without one of the three kinds of cones, as far as that can be
simulated. They were found by a search for the set whose smallest difference is largest.
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
