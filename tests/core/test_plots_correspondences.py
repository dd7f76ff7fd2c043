"""The heat maps of two domains."""

import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR
from univseg_core.measuring.correspondences import Correspondence
from univseg_core.pictures.images import read_image
from univseg_core.reporting.plots.correspondences import draw_correspondence

NAN = float('nan')
FEATURES = np.array([[0.9, -0.12], [NAN, NAN], [0.2, 0.4]])
SHARES = np.array([[0.75, 0.25], [NAN, NAN], [0.504, 0.496]])
BACK = np.array([[1., 0, NAN], [0.2, 0.8, NAN]])


def draw(path, embedding):
    there = Correspondence(OUTDOOR, INDOOR, np.array([4, 0, 2]), FEATURES, embedding, SHARES)
    back = Correspondence(INDOOR, OUTDOOR, np.array([5, 1]), FEATURES.T, embedding.T, BACK)
    return draw_correspondence(there, back, path, 'first')


def heat_maps(figure):
    """Return the maps' texts by row and column, and the framed cells."""
    found = []
    for axis in figure.axes:
        texts = {tuple(map(int, text.get_position()[::-1])): text.get_text()
                 for text in axis.texts}
        frames = [(round(patch.get_y() + 0.47), round(patch.get_x() + 0.47))
                  for patch in axis.patches]
        found.append((texts, frames))
    return found


def assert_texts_keep_apart(figure):
    figure.canvas.draw()
    texts = [*figure.texts, *(text for axis in figure.axes for text in (
        *axis.texts, *axis.get_xticklabels(), *axis.get_yticklabels(), axis.xaxis.label))]
    boxes = [text.get_window_extent() for text in texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i]), texts[i]
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1


def test_the_values_stand_in_their_cells(tmp_path, drawn):
    paths = draw(tmp_path / 'heat', FEATURES)
    assert [path.name for path in paths] == ['heat.png', 'heat.svg']
    assert read_image(paths[0]).std() > 0
    features, embedding, shares, back = heat_maps(drawn[0])
    assert features == embedding == (
        {(0, 0): '.90', (0, 1): '-.12', (2, 0): '.20', (2, 1): '.40'}, [(0, 0), (2, 1)])
    assert shares == ({(0, 0): '75', (0, 1): '25', (2, 0): '50', (2, 1): '50'}, [(0, 0), (2, 0)])
    assert back == ({(0, 0): '100', (0, 1): '0', (1, 0): '20', (1, 1): '80'}, [(0, 0), (1, 1)])


@pytest.mark.usefixtures('unsaved')
def test_classes_are_named_in_the_masks_colours(tmp_path, drawn):
    draw(tmp_path / 'heat', FEATURES)
    there, back = drawn[0].axes[0], drawn[0].axes[3]
    for axis, rows, columns in ((there, OUTDOOR, INDOOR), (back, INDOOR, OUTDOOR)):
        assert [text.get_text() for text in axis.get_yticklabels()] == list(rows.classes)
        assert [text.get_text() for text in axis.get_xticklabels()] == list(columns.classes)
        for marks, domain in zip(axis.collections, (rows, columns), strict=True):
            colours = np.round(255 * marks.get_facecolors()[:, :3]).astype(int).tolist()
            assert list(map(tuple, colours)) == list(domain.palette)
        # The first row is the uppermost, the first column the leftmost.
        assert (np.diff(axis.collections[0].get_offsets()[:, 1]) < 0).all()
        assert (np.diff(axis.collections[1].get_offsets()[:, 0]) > 0).all()
    assert_texts_keep_apart(drawn[0])


@pytest.mark.usefixtures('unsaved')
def test_a_collapsed_embedding_is_named_and_has_no_frames(tmp_path, drawn):
    draw(tmp_path / 'heat', np.full((3, 2), 0.999))
    assert heat_maps(drawn[0])[1][1] == []
    assert any('(collapsed)' in text.get_text() for text in drawn[0].texts)
