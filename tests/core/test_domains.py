"""A domain's label space, its checks and its colours."""

import json

import numpy as np
import pytest
from univseg_core.domains import Domain, DomainError

CLASSES = ['road', 'car']


@pytest.mark.parametrize('name', ['a', 'outdoor', 'kitchen_2', 'x1', 'train'])
def test_names_that_a_topic_may_have(name):
    assert Domain.create(name, CLASSES).name == name


@pytest.mark.parametrize('name', ['', 'Outdoor', '2nd', '_a', 'a-b', 'a b', 'a/b', 'küche', 'a\n',
                                  None, 3])
def test_other_names_are_refused(name):
    with pytest.raises(DomainError, match='domain name'):
        Domain.create(name, CLASSES)


@pytest.mark.parametrize(('classes', 'message'), [
    ([], 'expected 1 to 255 classes, got 0'),
    ([f'c{i}' for i in range(256)], 'expected 1 to 255 classes, got 256'),
    (['road', 'car', 'road'], r"repeat: \['road'\]"),
])
def test_classes_that_cannot_be_are_refused(classes, message):
    with pytest.raises(DomainError, match=f'domain outdoor: .*{message}'):
        Domain.create('outdoor', classes)


@pytest.mark.parametrize(('palette', 'message'), [
    ([(0, 0, 0)], '2 classes but 1 palette colours'),
    ([(0, 0, 0), (0, 0, 256)], '256.*expected three integers'),
    ([(0, 0, 0), (0, -1, 0)], '-1.*expected three integers'),
    ([(0, 0, 0), (0, 0)], r'\(0, 0\).*expected three integers'),
])
def test_palettes_that_do_not_fit_are_refused(palette, message):
    with pytest.raises(DomainError, match=f'domain outdoor: .*{message}'):
        Domain.create('outdoor', CLASSES, palette)


@pytest.mark.parametrize('count', [1, 255])
def test_the_fewest_and_the_most_classes(count):
    assert len(Domain.create('a', [f'c{i}' for i in range(count)]).palette) == count


def test_a_mask_is_coloured_and_unknown_is_black():
    domain = Domain.create('outdoor', CLASSES, [(1, 2, 3), (200, 100, 50)])
    picture = domain.colourise(np.array([[1, 0, 255]], np.uint8))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[200, 100, 50], [1, 2, 3], [0, 0, 0]]]


def test_a_domain_survives_json():
    domain = Domain.create('outdoor', CLASSES)
    assert Domain.from_dict(json.loads(json.dumps(domain.to_dict()))) == domain
