"""
Charts as inline SVG, whose colours the page's style sheet gives them: light ones and dark ones.

All texts are escaped: they are put into the markup by Markup's own `format`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
import math

from markupsafe import Markup
import numpy as np
from univseg_core.measuring.reliability import Reliability
from univseg_core.reporting.plots.curves import smoothed
from univseg_core.reporting.plots.texts import apart

COLOURS = 8
"""Colours of series that the style sheet has, c0 … c7."""

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 10, 28
"""Of a chart's frame, in units of the drawing: about pixels."""

MOST_POINTS = 400
"""Of a curve, which longer ones are thinned to."""

SIDE = 300
"""Of square charts."""

LETTER, LINE = 7.2, 15
"""Width of a letter, at most about, and height of a line of text."""

MARKS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f'M{x - 3:.1f} {y:.1f}a3 3 0 1 0 6 0a3 3 0 1 0-6 0',
    lambda x, y: f'M{x:.1f} {y - 3.8:.1f}l3.6 6.4h-7.2z',
    lambda x, y: f'M{x - 2.8:.1f} {y - 2.8:.1f}h5.6v5.6h-5.6z',
    lambda x, y: f'M{x:.1f} {y - 3.8:.1f}l3.8 3.8l-3.8 3.8l-3.8-3.8z',
)
"""Paths of marks around a place, one for each domain in turn."""

GLYPHS = ('●', '▲', '■', '◆')
"""The same as text."""


@dataclass(frozen=True)
class Series:
    """A curve: its name, its colour's number, and its points (n,) each; with `dots`, measured."""

    label: str
    colour: int
    x: np.ndarray
    y: np.ndarray
    dots: bool = False

    @property
    def css(self) -> str:
        """Return the class that gives it its colour."""
        return f'c{self.colour % COLOURS}'


@dataclass(frozen=True)
class Chart:
    """What a chart shows, and the drawing; `series` are those in it, for a legend."""

    title: str
    series: list[Series]
    svg: Markup


def line_chart(title: str, series: Iterable[Series], unit: str = '', log: bool = False
               ) -> Chart | None:
    """
    Return curves over the steps; None where no value is finite.

    With `log`, values that are positive and spread over more than a decade are on a logarithmic
    axis; others begin at 0. Curves without dots are drawn as moving averages over their faint
    values.
    """
    shown = [each for each in series if np.isfinite(each.y).any()]
    if not shown:
        return None
    values = np.concatenate([each.y[np.isfinite(each.y)] for each in shown])
    last = max(float(each.x.max()) for each in shown) or 1.0
    logarithmic = bool(log and values.min() > 0 and values.max() > 10 * values.min())
    # A few outliers of the first steps must not flatten the rest.
    top = float(values.max() if logarithmic or any(each.dots for each in shown)
                else np.quantile(values, 0.995))
    ticks = _decades(float(values.min()), top) if logarithmic else _steps(
        min(0.0, float(values.min())), top)
    low, high = ticks[0], ticks[-1]

    def x_of(steps: np.ndarray | float) -> np.ndarray:
        return LEFT + (WIDTH - LEFT - RIGHT) * np.asarray(steps, float) / last

    def y_of(some: np.ndarray | float) -> np.ndarray:
        some, ends = np.asarray(some, float), np.array([low, high])
        if logarithmic:
            some, ends = np.log(np.maximum(some, 1e-300)), np.log(ends)
        share = np.clip((some - ends[0]) / (ends[1] - ends[0]), 0, 1)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [_grid([(float(y_of(tick)), _number(tick)) for tick in ticks],
                   [(float(x_of(tick)), _number(tick)) for tick in _steps(0, last)
                    if tick <= last])]
    for each in shown:
        x, y = x_of(each.x), each.y
        if not each.dots:
            smooth = smoothed(y)
            if not np.allclose(smooth, y, rtol=1e-2, equal_nan=True):
                parts.append(_path(x, y_of(y), y, f'{each.css} faint'))
            y = smooth
        parts.append(_path(x, y_of(y), y, each.css))
        if each.dots or len(y) == 1:
            parts += [Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}: {} '
                             'at step {:.0f}</title></circle>').format(
                                 each.css, float(x_of(step)), float(y_of(value)), each.label,
                                 _number(value) + unit, step)
                      for step, value in zip(each.x, each.y, strict=True) if np.isfinite(value)]
    told = '; '.join(_told(each, unit) for each in shown)
    return Chart(title + (f', {unit.strip()}' if unit else ''), shown,
                 _svg(WIDTH, HEIGHT, f'{title} over the steps. {told}', parts))


def reliability_chart(title: str, runs: Sequence[tuple[str, int, Reliability]]) -> Markup:
    """
    Return how often pixels are right over how sure a model is, of some runs.

    Each run has a name, its colour's number, and what was found. The area of a dot is the share
    of the pixels that are that sure.
    """
    inner = SIDE - LEFT - RIGHT

    def x_of(share: float) -> float:
        return LEFT + inner * share

    def y_of(share: float) -> float:
        return TOP + inner * (1 - share)

    quarters = [0, 0.25, 0.5, 0.75, 1]
    parts = [_grid([(y_of(each), f'{100 * each:.0f}') for each in quarters],
                   [(x_of(each), f'{100 * each:.0f}') for each in quarters],
                   SIDE, TOP + inner),
             Markup('<path class="ideal" d="M{} {}L{} {}"/>').format(x_of(0), y_of(0), x_of(1),
                                                                    y_of(1))]
    for name, colour, found in runs:
        css, total = f'c{colour % COLOURS}', max(1, int(found.pixels.sum()))
        some = [i for i in range(len(found.pixels)) if found.pixels[i]]
        points = [(x_of(float(found.confidence[i])), y_of(float(found.accuracy[i])))
                  for i in some]
        parts.append(Markup('<path class="{}" d="{}"/>').format(css, 'M' + 'L'.join(
            f'{x:.1f} {y:.1f}' for x, y in points)))
        parts += [Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}: {:.0f}'
                         ' % sure, {:.0f} % right; {:.1f} % of the pixels</title></circle>'
                         ).format(css, x, y, 2 + 9 * math.sqrt(found.pixels[i] / total), name,
                                  100 * found.confidence[i], 100 * found.accuracy[i],
                                  100 * found.pixels[i] / total)
                  for i, (x, y) in zip(some, points, strict=True)]
    told = '; '.join(f'{name}: {100 * found.mean_confidence:.1f} % sure and '
                     f'{100 * found.mean_accuracy:.1f} % right on average'
                     for name, _, found in runs)
    return _svg(SIDE, TOP + inner + BOTTOM,
                f'{title}: share of right pixels over confidence. {told}', parts)


@dataclass(frozen=True)
class Cloud:
    """Points (n, 2) of one class of a domain: its name, colour (0..255), the domain's number."""

    label: str
    colour: tuple[int, int, int]
    domain: int
    places: np.ndarray


def scatter(title: str, clouds: Sequence[Cloud]) -> Markup:
    """Return points in the plane, without axes, with each cloud's name in its midst."""
    margin = 16.0
    together = np.concatenate([each.places for each in clouds])
    low, extents = together.min(0), np.ptp(together, axis=0)
    scale = (WIDTH - 2 * margin) / max(float(extents.max()), 1e-9)
    height = round(max(scale * extents[1] + 2 * margin, WIDTH / 2))
    low = low - ([WIDTH, height] - scale * extents) / 2 / scale  # in the middle
    parts, middles = [], []
    for each in clouds:
        places = scale * (each.places - low)
        mark = MARKS[each.domain % len(MARKS)]
        parts.append(Markup('<path class="mark" fill="rgb({},{},{})" d="{}"/>').format(
            *each.colour, ''.join(mark(x, y) for x, y in places)))
        from_median = np.linalg.norm(places - np.median(places, axis=0), axis=1)
        middles.append(places[from_median.argmin()])
    texts = [f'{GLYPHS[each.domain % len(GLYPHS)]} {each.label}' for each in clouds]
    sizes = np.array([(LETTER * len(text) + 10, LINE) for text in texts])
    places = apart(np.array(middles), sizes, np.zeros(2),
                   np.array([WIDTH, height], float))
    parts += [Markup('<text class="name" x="{:.1f}" y="{:.1f}">{}</text>').format(x, y + 4, text)
              for (x, y), text in zip(places, texts, strict=True)]
    return _svg(WIDTH, height, f'{title}: {", ".join(each.label for each in clouds)}', parts)


def _svg(width: int, height: int, text: str, parts: Iterable[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, text, Markup('').join(parts))


def _grid(rows: Sequence[tuple[float, str]], columns: Sequence[tuple[float, str]],
          width: int = WIDTH, bottom: int = HEIGHT - BOTTOM) -> Markup:
    """Return lines across at the rows' heights, and what stands beside and below the frame."""
    lines = [Markup('<path class="grid" d="M{} {:.1f}H{}"/><text class="left" x="{}" y="{:.1f}">'
                    '{}</text>').format(LEFT, y, width - RIGHT, LEFT - 7, y + 5, text)
             for y, text in rows]
    lines += [Markup('<text class="below" x="{:.1f}" y="{}">{}</text>').format(
        x, bottom + 20, text) for x, text in columns]
    return Markup('').join(lines)


def _path(x: np.ndarray, y: np.ndarray, values: np.ndarray, css: str) -> Markup:
    """Return a curve that is broken where its values are not numbers; a long one is thinned."""
    chosen = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int)) if len(
        x) > MOST_POINTS else np.arange(len(x))
    text, down = [], False
    for i in chosen:
        if np.isfinite(values[i]):
            text.append(f'{"L" if down else "M"}{x[i]:.1f} {y[i]:.1f}')
        down = bool(np.isfinite(values[i]))
    return Markup('<path class="{}" d="{}"/>').format(css, ''.join(text))


def _told(each: Series, unit: str) -> str:
    known = np.flatnonzero(np.isfinite(each.y))
    first, last = known[0], known[-1]
    return (f'{each.label}: {_number(each.y[first])}{unit} at step {each.x[first]:.0f}, '
            f'{_number(each.y[last])}{unit} at step {each.x[last]:.0f}')


def _steps(low: float, high: float) -> list[float]:
    """Return about five even numbers, from `low` or below it to `high` or above it."""
    if high <= low:
        high = low + 1
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return powers of ten around positive numbers, of many decades some alone."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = -(-(last - first) // 5)
    return [10.0 ** i for i in range(first, last + every, every)]


def _number(value: float) -> str:
    return f'{value:.3g}' if abs(value) < 1000 else f'{value:,.0f}'.replace(',', '\u202f')
