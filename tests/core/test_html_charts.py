"""Charts as SVG: what is in them, and that every text is escaped."""

from xml.etree import ElementTree

import numpy as np
import pytest
from univseg_core.measuring.reliability import ReliabilityCount
from univseg_core.reporting.html.charts import (
    _decades,
    _steps,
    Cloud,
    COLOURS,
    HEIGHT,
    line_chart,
    MOST_POINTS,
    reliability_chart,
    scatter,
    Series,
    WIDTH,
)

HOSTILE = '"><script>alert(1)</script>&\''
STEPS = np.arange(10.0, 60, 10)


def drawn(svg):
    """Return the elements of a drawing, by an XML parser, with its alternative text."""
    root = ElementTree.fromstring(str(svg))
    assert root.get('role') == 'img'
    assert 'script' not in {element.tag for element in root.iter()}
    return list(root.iter()), root.get('aria-label')


@pytest.mark.parametrize(('low', 'high', 'expected'), [
    (0, 40, [0, 10, 20, 30, 40]), (0, 0.002, [0, 0.0005, 0.001, 0.0015, 0.002]),
    (0, 0, [0, 0.25, 0.5, 0.75, 1]), (-3, 5, [-4, -2, 0, 2, 4, 6]), (0, 33, [0, 10, 20, 30, 40])])
def test_even_numbers_around_a_range(low, high, expected):
    assert _steps(low, high) == expected


def test_powers_of_ten_around_a_range():
    assert _decades(0.02, 30) == [0.01, 0.1, 1, 10, 100]
    decades = _decades(1e-12, 1)
    assert len(decades) <= 7
    assert decades[0] <= 1e-12
    assert decades[-1] >= 1


def test_a_curve_runs_from_its_first_to_its_last_point():
    chart = line_chart('mIoU', [Series('a', 0, STEPS, STEPS, dots=True)], ' %')
    assert chart.title == 'mIoU, %'
    elements, text = drawn(chart.svg)
    assert text == 'mIoU over the steps. a: 10 % at step 10, 50 % at step 50'
    dots = [element for element in elements if element.tag == 'circle']
    assert len(dots) == 5
    assert all(0 < float(dot.get('cx')) < WIDTH and 0 < float(dot.get('cy')) < HEIGHT
               for dot in dots)
    heights = [float(dot.get('cy')) for dot in dots]
    assert heights == sorted(heights, reverse=True)


def test_a_chart_of_nothing_is_none():
    none = np.full(5, np.nan)
    assert line_chart('a', []) is None
    assert line_chart('a', [Series('a', 0, STEPS, none), Series('b', 1, STEPS[:0], none[:0])]
                      ) is None


def test_a_gap_breaks_a_curve():
    values = np.array([1, 2, np.nan, 2, 1])
    elements, _ = drawn(line_chart('a', [Series('a', 0, STEPS, values, dots=True)]).svg)
    path, = (each.get('d') for each in elements if each.get('class') == 'c0' and each.get('d'))
    assert path.count('M') == 2
    assert 'nan' not in path


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    steps = np.arange(100_000.0)
    svg = line_chart('a', [Series('a', COLOURS + 1, steps, 1 + steps % 7)], log=True).svg
    assert len(svg) < 40_000
    paths = [each.get('d') for each in drawn(svg)[0] if 'c1' in (each.get('class') or '').split()]
    assert all(path.count('L') < MOST_POINTS for path in paths)


def test_texts_of_charts_are_escaped():
    drawn(line_chart(HOSTILE, [Series(HOSTILE, 0, STEPS, STEPS, dots=True)], HOSTILE).svg)
    cloud = Cloud(HOSTILE, (1, 2, 3), 0, np.array([[0., 0], [1, 1]]))
    assert HOSTILE in drawn(scatter(HOSTILE, [cloud]))[1]
    count = ReliabilityCount()
    count.add(*np.zeros((3, 2, 2), np.uint8))
    drawn(reliability_chart(HOSTILE, [(HOSTILE, 0, count.result())]))


def test_points_lie_within_the_plane():
    clouds = [Cloud('a', (1, 2, 3), 0, np.array([[5., 5], [5, 5]])),
              Cloud('b', (1, 2, 3), 5, np.array([[-900., 3]]))]
    elements, _ = drawn(scatter('t-SNE', clouds))
    names = [element for element in elements if element.get('class') == 'name']
    assert [name.text for name in names] == ['● a', '▲ b']
    assert all(0 < float(name.get('x')) < WIDTH for name in names)
