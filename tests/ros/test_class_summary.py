"""A mask in few numbers."""

import json

from builtin_interfaces.msg import Time
import numpy as np
import pytest
from std_msgs.msg import Header
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmentation
from univseg_ros.class_summary import class_summary

DOMAIN = Domain.create('outdoor', ['road', 'sky', 'tree'])
HEADER = Header(stamp=Time(sec=1_700_000_000, nanosec=123_456_789), frame_id='camera')
MASK = np.array([[0, 0, 0, 1], [0, 1, 255, 255]], np.uint8)
SURE = np.array([0.4, 0.5, np.nan])


def summary(mask, sure=SURE):
    return json.loads(class_summary(DOMAIN, Segmentation(mask, None, sure), HEADER))


def test_shares_are_those_of_the_pixels_and_confidences_those_of_the_segmentation():
    assert summary(MASK) == {
        'stamp': 1_700_000_000_123_456_789, 'frame_id': 'camera', 'unknown': 0.25, 'classes': {
            'road': {'share': 0.5, 'confidence': 0.4},
            'sky': {'share': 0.25, 'confidence': 0.5},
            'tree': {'share': 0.0, 'confidence': None}}}


@pytest.mark.parametrize('size', [(1, 1), (37, 53), (720, 1280)])
def test_shares_are_counts_and_add_up(size):
    generator = np.random.default_rng(0)
    mask = generator.choice(np.array([0, 2, 2, 255], np.uint8), size)
    found = summary(mask)
    for index, entry in enumerate(found['classes'].values()):
        assert entry['share'] == pytest.approx(np.mean(mask == index), abs=1e-6)
    assert found['unknown'] + sum(
        entry['share'] for entry in found['classes'].values()) == pytest.approx(1, abs=1e-5)


def test_counts_are_exact_beyond_what_single_precision_counts_one_by_one():
    # 2^24 + 2^20 pixels of one class.
    mask = np.zeros((4352, 4096), np.uint8)
    assert summary(mask)['classes']['road']['share'] == 1.0


def test_any_name_of_a_class_is_written():
    names = ['Straße "A"', '道路', 'a/b']
    text = class_summary(Domain.create('wide', names), Segmentation(MASK, None, SURE), HEADER)
    assert list(json.loads(text)['classes']) == names
