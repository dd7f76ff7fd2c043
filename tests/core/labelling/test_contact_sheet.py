"""Pages of small pictures with captions."""

import numpy as np
import pytest
from univseg_core.labelling.contact_sheet import contact_sheet, GAP, wrapped


def test_a_contact_sheet_has_each_picture_in_its_place():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    pictures = [(np.full((30, 40, 3), colour, np.uint8), str(i), ['name'])
                for i, colour in enumerate(colours)]
    sheet = contact_sheet(pictures, columns=2, width=80)
    assert sheet.shape[1] == 2 * 80 + 3 * GAP
    height = len(sheet) // 2
    middles = [(GAP + 40, GAP + 40), (GAP + 40, 2 * GAP + 120), (height + GAP + 40, GAP + 40)]
    assert [tuple(sheet[place].tolist()) for place in middles] == colours
    assert (sheet[height:, 80 + 2 * GAP:] == 255).all()  # no fourth picture
    with pytest.raises(ValueError, match='at least one'):
        contact_sheet([], columns=2)


def test_captions_are_wrapped_at_spaces():
    lines = wrapped('uncertain: chair/table over 31 % of the pixels', 120)
    assert len(lines) > 1
    assert ' '.join(lines) == 'uncertain: chair/table over 31 % of the pixels'
    assert wrapped('a_very_long_name_without_any_space', 20) == [
        'a_very_long_name_without_any_space']
