"""What segmentation nodes say of places, and what does not come from one."""

import json

import pytest
from univseg_core.recording.node_texts import domain_of, recognition_of

RECOGNITION = {'stamp': 12 * 10**9 + 5, 'frame_id': 'camera', 'domain': None,
               'probabilities': {'outdoor': 0.75, 'indoor': 0.25}, 'unfamiliarity': 1.5}


def test_a_recognition_tells_of_its_image():
    assert recognition_of(json.dumps(RECOGNITION)) == (12 * 10**9 + 5, b'camera', 1.5)
    assert recognition_of('{"stamp": 0, "frame_id": "", "unfamiliarity": 2}') == (0, b'', 2.0)


def test_a_domain_may_be_none():
    assert domain_of('{"domain": "outdoor", "probability": 0.9}') == ('outdoor', False, '')
    assert domain_of('{"domain": null, "state": "none", "why": "unlike all"}') == (
        None, True, 'unlike all')
    assert domain_of('{"domain": null, "state": "undecided"}') == (None, False, '')
    assert domain_of('{"domain": null, "why": 3}') == (None, False, '')


DAMAGED = ['', '{', 'null', '3', '[]', '"text"', '{}', '[' * 100_000, '{"stamp": 1' + '0' * 5000,
           '{"a": "' + 'b' * 200_000 + '"}']


@pytest.mark.parametrize('text', [
    *DAMAGED,
    *(json.dumps({**RECOGNITION, key: value}) for key, value in [
        ('stamp', 1.5), ('stamp', '1'), ('stamp', True), ('stamp', None), ('frame_id', 3),
        ('unfamiliarity', 'high'), ('unfamiliarity', None), ('unfamiliarity', True),
        ('unfamiliarity', float('nan')), ('unfamiliarity', float('inf')),
        ('unfamiliarity', 10**400)]),
    *(json.dumps({key: RECOGNITION[key] for key in RECOGNITION if key != left_out})
      for left_out in ('stamp', 'frame_id', 'unfamiliarity'))], ids=lambda text: text[:20])
def test_what_is_no_recognition_is_refused(text):
    with pytest.raises(ValueError):
        recognition_of(text)


@pytest.mark.parametrize('text', [*DAMAGED, '{"domain": 3}', '{"domain": ["outdoor"]}'],
                         ids=lambda text: text[:20])
def test_what_names_no_domain_is_refused(text):
    with pytest.raises(ValueError):
        domain_of(text)


def test_a_frame_id_may_be_any_text():
    text = json.dumps({**RECOGNITION, 'frame_id': 'k\u00fcche\ud800'})
    assert recognition_of(text)[1] == b'k\xc3\xbcche\xed\xa0\x80'
