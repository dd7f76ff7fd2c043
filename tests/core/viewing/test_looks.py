"""What a model makes of a frame, and how it is drawn: small cases, by hand."""

import numpy as np
import pytest
from tiny_worlds import INDOOR, OUTDOOR, random_image, small_network
import torch
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.domain_evidence import Recognition
from univseg_core.models.model_card import ModelCard
from univseg_core.viewing import looks
from univseg_core.viewing.looks import Answer, Look

MASK = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
IMAGE = np.full((2, 3, 3), 100, np.uint8)
ANSWER = Answer(MASK, np.full((2, 3), 204, np.uint8), np.array([[0, 128, 255]] * 2, np.uint8))


def test_all_domains_come_of_one_pass_and_are_those_of_the_segmenter():
    segmenter = Segmenter(small_network(encoder='light', width=1 / 8), ModelCard(), device='cpu',
                          inference_size=64)
    passes = []
    features = segmenter._backend.features
    segmenter._backend.features = lambda image: passes.append(1) or features(image)
    image = random_image(60, 80)
    seen = looks.see(segmenter, 'a.png', image)
    assert len(passes) == 1
    assert (seen.name, seen.recognition) == ('a.png', None)
    assert np.array_equal(seen.image, image)
    found = segmenter(image, confidence=True)
    for name in ('outdoor', 'indoor'):
        assert np.array_equal(seen.answers[name].mask, found[name].mask)
        assert np.array_equal(seen.answers[name].confidence, found[name].confidence)
        assert seen.answers[name].entropy.shape == (60, 80)


def test_masks_by_label_embeddings_are_those_of_the_segmenter():
    """A class without a label embedding is nowhere; one domain's image has all label spaces."""
    network = small_network(encoder='light', width=1 / 8)
    network.set_label_embeddings('outdoor', torch.eye(3, 8) * torch.tensor([[1], [0], [1]]))
    network.set_label_embeddings('indoor', torch.randn(2, 8))
    segmenter = Segmenter(network, ModelCard(), device='cpu', inference_size=64)
    image = random_image(60, 80)
    answers = looks.see(segmenter, '', image, looks.LABEL_EMBEDDINGS).answers
    encoded = segmenter.encode(image)
    for name, answer in answers.items():
        assert np.array_equal(answer.mask, segmenter.label_embedding_mask(encoded, name))
    assert set(np.unique(answers['outdoor'].mask)) <= {0, 2}


def test_large_frames_are_shown_smaller():
    assert looks.shown_size(3000, 4000) == (1200, 1600)
    assert looks.shown_size(480, 640) == (480, 640)


def test_cells_lie_over_the_image_as_logits_do():
    """A linear ramp stays one; what the network did not see is cut off."""
    cells = np.tile(np.linspace(0, 1, 6, dtype=np.float32), (3, 1))
    fitted = looks.at_size(cells, (10, 20), (10, 20), 4)
    assert fitted.shape == (10, 20)
    middle = fitted[5, 2:].astype(float) / 255
    assert np.allclose(middle, (np.arange(2, 20) + 0.5) / 20 - 0.1, atol=0.01)
    assert looks.at_size(cells, (10, 20), (5, 40), 4).shape == (5, 40)


def tinted(look):
    """Return where the picture of an answer is not the image."""
    return (looks.drawn(IMAGE, ANSWER, OUTDOOR, look) != IMAGE).any(2).tolist()


def test_hidden_classes_and_void_keep_the_image():
    assert tinted(Look()) == [[True] * 3, [True, False, True]]
    assert tinted(Look(hidden=frozenset({0, 2}))) == [[False, True, False], [False] * 3]
    assert tinted(Look(alone=2)) == [[False, False, True], [True, False, False]]
    assert tinted(Look(alone=0, hidden=frozenset({0}))) == [[True, False, False],
                                                            [False, False, True]]
    assert not np.any(tinted(Look(opacity=0)))
    opaque = looks.drawn(IMAGE, ANSWER, OUTDOOR, Look(opacity=1))
    assert tuple(opaque[0, 1]) == OUTDOOR.palette[1]


def test_a_class_goes_off_and_on():
    look = Look().toggled(2).toggled(1)
    assert look.hidden == {1, 2}
    assert look.toggled(2).hidden == {1}


def test_heat_maps_rise_from_dark_to_bright_and_leave_hidden_classes_out():
    entropy = looks.drawn(IMAGE, ANSWER, OUTDOOR, Look('entropy', 1.0)).sum(2)[0]
    assert entropy[0] < entropy[1] < entropy[2]
    confidence = looks.drawn(IMAGE, ANSWER, OUTDOOR,
                             Look('confidence', 1.0, hidden=frozenset({0})))
    assert tuple(confidence[0, 0]) == tuple(IMAGE[0, 0])
    assert (confidence[0, 1] == looks.heat_map(ANSWER.confidence)[0, 1]).all()
    scale = looks.heat_scale(3)
    assert scale[0] == looks.as_hex(looks.heat_map(np.zeros((1, 1), np.uint8))[0, 0])
    assert len(set(scale)) == 3


def test_shares_are_of_all_pixels():
    found = looks.shares(MASK, 3)
    assert found == pytest.approx([2 / 6, 1 / 6, 2 / 6])
    assert [looks.share_text(share) for share in (0, 0.004, 0.166, 1)] == [
        '', '< 1 %', '17 %', '100 %']


@pytest.mark.parametrize(('place', 'text'), [
    ((1.9, 0.2), 'box · confidence 80 % · entropy 0.50'),
    ((1, 1), 'void · confidence 80 % · entropy 0.50'),
    ((2.99, 1.99), 'ground · confidence 80 % · entropy 1.00'),
    ((3, 0), ''), ((0, 2), ''), ((-0.1, 0), '')])
def test_the_class_under_the_cursor(place, text):
    assert looks.under(ANSWER, OUTDOOR, *place) == text


def test_a_recognition_in_words():
    of = {'outdoor': 0.97, 'indoor': 0.03}
    assert looks.recognised(Recognition(of, 0.4)) == (
        'recognised as outdoor (97 %, unfamiliarity 0.40)')
    assert looks.recognised(Recognition(of, 1.5)) == (
        'of none of the domains (unfamiliarity 1.50, most like outdoor)')


def test_colours_are_those_of_the_palette():
    assert looks.as_hex((255, 0, 16)) == '#ff0010'
    assert len(INDOOR.palette) == 2
