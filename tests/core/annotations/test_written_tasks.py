"""labelme's and Label Studio's files as they are written, and read again."""

import json
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from reading import classes_of, written
from univseg_core.annotations.formats import FORMATS
from univseg_core.annotations.regions import AnnotationError
from univseg_core.domains import Domain

YARD = Domain.create('yard', ['road', 'tree & bush', '<"sky">'],
                     [(128, 64, 0), (0, 255, 1), (9, 10, 11)])
INDEX = {name: index for index, name in enumerate(YARD.classes)}


@pytest.fixture
def mask():
    y, x = np.mgrid[:60, :80]
    classes = np.full((60, 80), 2, np.uint8)
    classes[y > 30 + x / 8] = 0
    classes[np.hypot(y - 25, x - 30) < 17] = 1
    classes[np.hypot(y - 25, x - 30) < 6] = 255
    classes[:, 70:] = 255
    return classes


def write(name, folder, masks):
    (folder / 'images').mkdir(parents=True)
    writer = FORMATS[name].write(folder, YARD)
    for frame, mask in masks.items():
        writer.add(Path('frames') / frame, mask, 0.87654321)
    writer.finish()
    return folder


def accepted(tasks):
    """Return tasks as Label Studio exports them once predictions are accepted."""
    return [{'id': number, 'data': task['data'], 'predictions': task['predictions'],
             'annotations': [{'id': number, 'result': task['predictions'][0]['result']}]}
            for number, task in enumerate(tasks)]


def test_files_of_labelme_are_read_again(tmp_path, mask):
    folder = write('labelme', tmp_path / 'out', {'a.jpg': mask, 'b c.png': mask[:, ::-1]})
    first, second = FORMATS['labelme'].read(folder / 'images')
    assert (first.image, second.image) == ('a.jpg', 'b c.png')
    assert first.size == (60, 80)
    for image, expected in ((first, mask), (second, mask[:, ::-1])):
        found = classes_of(image, INDEX | dict.fromkeys(image.void, 255))
        assert np.mean(found != expected) < 0.005
    assert (folder / 'labels.txt').read_text().splitlines() == [
        '__ignore__', '_background_', *YARD.classes]


def test_files_of_labelme_say_what_is_in_them(tmp_path, mask):
    folder = write('labelme', tmp_path / 'out', {'a.jpg': mask})
    values = json.loads((folder / 'images' / 'a.json').read_text())
    assert values['imageData'] is None
    assert [shape['label'] for shape in values['shapes']] == [
        '<"sky">', 'road', 'tree & bush', '_background_']
    assert {shape['shape_type'] for shape in values['shapes']} == {'polygon'}


def test_a_class_cannot_be_called_as_labelme_calls_none(tmp_path):
    with pytest.raises(AnnotationError, match='domain yard: to labelme, _background_ is no class'):
        FORMATS['labelme'].write(tmp_path, Domain.create('yard', ['road', '_background_']))


def test_brushes_of_label_studio_are_read_again_exactly(tmp_path, mask):
    folder = write('label-studio', tmp_path / 'out', {'a.jpg': mask, 'b #1.png': mask[:, ::-1]})
    tasks = json.loads((folder / 'tasks.json').read_text())
    first, second = FORMATS['label-studio'].read(
        written(tmp_path / 'export.json', accepted(tasks)))
    assert (first.image, second.image) == ('images/a.jpg', 'images/b #1.png')
    for image, expected in ((first, mask), (second, mask[:, ::-1])):
        np.testing.assert_array_equal(classes_of(image, INDEX), expected)


def test_predictions_say_how_sure_the_model_is(tmp_path, mask):
    folder = write('label-studio', tmp_path / 'out', {'a b.jpg': mask})
    [task] = json.loads((folder / 'tasks.json').read_text())
    assert task['data'] == {'image': '/data/local-files/?d=images/a%20b.jpg'}
    [prediction] = task['predictions']
    assert (prediction['score'], prediction['model_version']) == (0.8765, 'univseg yard')
    assert FORMATS['label-studio'].recognises(folder)
    empty = write('label-studio', tmp_path / 'empty', {})
    assert json.loads((empty / 'tasks.json').read_text()) == []


def test_the_labelling_interface_has_names_and_colours(tmp_path):
    folder = write('label-studio', tmp_path / 'out', {})
    view = ElementTree.parse(folder / 'label_config.xml').getroot()
    assert [(label.get('value'), label.get('background')) for label in view.iter('Label')] == [
        ('road', '#804000'), ('tree & bush', '#00ff01'), ('<"sky">', '#090a0b')]
    assert view.find('Image').get('value') == '$image'
    brushes = view.find('BrushLabels')
    assert (brushes.get('name'), brushes.get('toName')) == ('label', 'image')
