"""What annotation tools call classes becomes classes of a domain."""

import pytest
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.labelling.class_names import ClassNames

STREET = Domain.create('street', ['road', 'traffic light', 'car', 'Car park'])


@pytest.mark.parametrize(('label', 'index'), [
    ('road', 0), ('Road', 0), ('traffic_light', 1), ('TrafficLight', 1), ('traffic-  LIGHT', 1),
    ('CARPARK', 3), ('void', IGNORE_INDEX), ('Void', None), ('cars', None), ('', None)])
def test_case_spaces_underscores_and_hyphens_are_forgiven(label, index):
    names = ClassNames(STREET)
    assert names.index(label) == index
    assert names.forgiven == ({} if label in ('road', 'void') or index is None
                              else {label: STREET.classes[index]})


def test_a_name_like_two_classes_is_neither():
    names = ClassNames(Domain.create('d', ['car park', 'carpark']))
    assert [names.index(label) for label in ('car park', 'carpark', 'CAR PARK')] == [0, 1, None]


def test_categories_are_renamed_merged_and_dropped():
    names = ClassNames(STREET, {'lorry': 'car', 'Wheel Chair': 'void', 'van': 'CAR', 'x': 'road',
                                'road': 'car'})
    labels = ('lorry', 'Lorry', 'wheel_chair', 'van', 'car', 'road', 'Road')
    assert [names.index(label) for label in labels] == [2, 2, 255, 2, 2, 2, 2]
    assert names.forgiven == {}
    assert names.mapped == {
        'lorry': 'car', 'Lorry': 'car', 'wheel_chair': 'void', 'van': 'car', 'road': 'car',
        'Road': 'car'}
    assert names.unused() == ['x']


def test_a_class_s_own_name_is_not_renamed_by_one_like_it():
    names = ClassNames(STREET, {'Car': 'void'})
    assert (names.index('car'), names.index('Car'), names.index('CAR')) == (2, 255, 255)


def test_a_class_called_void_is_one_and_a_new_name_void_is_warned_of(caplog):
    names = ClassNames(Domain.create('d', ['car', 'void']), {'x': 'void'})
    assert (names.index('void'), names.index('x')) == (1, 1)
    assert caplog.messages == ['--map x=void: d has a class of that name, which it is then']
    names = ClassNames(Domain.create('d', ['car', 'Void']), {'x': 'void', 'y': 'Void'})
    assert (names.index('x'), names.index('y')) == (IGNORE_INDEX, 1)
    assert len(caplog.messages) == 1


def test_a_new_name_is_a_class_or_void():
    with pytest.raises(UnivsegError, match=r"--map lorry=carr: street has no class 'carr'; "
                       r'expected void or one of road, .*; did you mean car\?'):
        ClassNames(STREET, {'lorry': 'carr'})


def test_long_names_and_those_of_several_lines_are_told_in_one():
    names = ClassNames(STREET)
    for label in ('a\nb', 'x' * 1000, '\ud800'):
        names.not_known(label, 'a.jpg', '7')
    first, second, third = names.problems()
    assert first.startswith(r"'a\\nb' is no class of street: ")
    assert '\n' not in first
    assert len(second) < 1200
    assert r'\ud800' in third


@pytest.mark.parametrize(('label', 'proposed'), [
    ('Street', None), ('Raod', 'Road'), ('roads', 'Road'), ('parked_car', 'Car'), ('Carpet', None),
    ('sign', 'SignSymbol'), ('bush', None), ('cat', None), ('sky/road', None), ('7', None),
    ('ROAD surface', 'Road')])
def test_a_class_is_proposed_where_hardly_another_can_be_meant(label, proposed):
    names = ClassNames(Domain.create('d', ['Sky', 'Road', 'Tree', 'SignSymbol', 'Car', 'bus']))
    names.not_known(label, 'a.jpg', '7')
    problem, = names.problems()
    assert f'--map {label}={proposed or "CLASS"} or' in problem.replace("'", '')
    assert ('did you mean' in problem) == (proposed is not None)


def test_categories_of_no_class_are_counted_with_what_to_do():
    names = ClassNames(STREET)
    for image in ('a.jpg', 'a.jpg', 'b.jpg'):
        names.not_known('raod', image, 'annotation 7')
    names.not_known("cow's tail", 'b.jpg', 'annotation 9')
    assert list(names.problems()) == [
        "'raod' is no class of street: 3 objects in 2 images, the first a.jpg: annotation 7; did "
        'you mean road?; say --map raod=road or --map raod=void',
        '"cow\'s tail" is no class of street: 1 object in 1 image, the first b.jpg: annotation 9; '
        """say --map 'cow'"'"'s tail=CLASS' or --map 'cow'"'"'s tail=void'"""]
