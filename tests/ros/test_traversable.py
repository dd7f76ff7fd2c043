"""Classes by the names that a parameter gives."""

import numpy as np
import pytest
from univseg_core.domains import Domain
from univseg_ros.traversable import (
    traversable_classes,
    traversable_mask,
    traversable_objection,
)

OUTDOOR = Domain.create('outdoor', ['road', 'a/b', 'pavement'])
INDOOR = Domain.create('indoor', ['floor', 'road'])


@pytest.mark.parametrize(('names', 'outdoor', 'indoor'), [
    ([], [], []), ([''], [], []), (['road'], [0], [1]), (['outdoor/road'], [0], []),
    (['pavement', 'indoor/road', 'outdoor/road'], [0, 2], [1]), (['a/b'], [1], []),
    (['outdoor/a/b'], [1], []), (['outdoor'], [], []), (['oad', 'Road'], [], [])])
def test_a_name_is_of_all_domains_or_of_the_one_before_the_slash(names, outdoor, indoor):
    assert traversable_classes(names, OUTDOOR) == outdoor
    assert traversable_classes(names, INDOOR) == indoor


def test_a_mask_of_classes_has_two_values():
    mask = np.array([[0, 1, 2], [254, 255, 2]], np.uint8)
    found = traversable_mask(mask, [0, 2])
    assert found.dtype == np.uint8
    assert found.tolist() == [[255, 0, 255], [0, 0, 255]]


def test_a_class_with_a_slash_in_its_name_is_one():
    domains = {'outdoor': OUTDOOR, 'indoor': INDOOR}
    assert traversable_objection(['a/b', 'outdoor/a/b'], domains) == ''
    assert 'has no domain' in traversable_objection(['a/c'], domains)
