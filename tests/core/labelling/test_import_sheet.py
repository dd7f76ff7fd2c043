"""Ten of the labels that are brought in are shown beside their images."""

from pathlib import Path

from label_maps import YARD
import numpy as np
import pytest
from univseg_core.labelling.import_sheet import SheetOfLabels, SHOWN, small_mask, WIDTH
from univseg_core.pictures.images import write_png


@pytest.mark.parametrize(('count', 'first', 'last'), [
    (3, [0, 1, 2], 2), (10, [0, 1, 2], 9), (20, [0, 2, 4], 18), (1000, [0, 64, 192], 896)])
def test_what_is_shown_is_spread_over_all_that_come(count, first, last):
    sheet = SheetOfLabels(YARD)
    for number in range(count):
        sheet.add(Path(str(number)), np.zeros((1, 1), np.uint8))
        assert len(sheet._kept) <= 2 * SHOWN
    shown = [int(frame.name) for frame, _ in sheet.shown]
    assert len(shown) == min(count, SHOWN)
    assert (shown[:3], shown[-1]) == (first, last)


def test_a_mask_is_kept_small_and_in_proportion():
    assert small_mask(np.zeros((600, 1200), np.uint8)).shape == (WIDTH // 2, WIDTH)
    assert small_mask(np.zeros((8, 4), np.uint8)).shape == (8, 4)


def test_an_image_stands_beside_itself_under_its_labels(tmp_path):
    sheet = SheetOfLabels(YARD)
    image, mask = np.full((30, 40, 3), 100, np.uint8), np.full((30, 40), 255, np.uint8)
    mask[:, 20:] = 2
    write_png(tmp_path / 'a.png', image)
    sheet.add(tmp_path / 'a.png', mask)
    picture = sheet.picture()
    assert picture.shape[1] > 2 * WIDTH
    # The middle row of the tile: plain, plain where void, and half way to the colour of a car.
    row = picture[WIDTH * 3 // 8]
    expected = {200: (100, 100, 100), WIDTH + 50: (100, 100, 100), WIDTH + 250: (150, 50, 55)}
    for column, colour in expected.items():
        np.testing.assert_allclose(row[column], colour, atol=1)
