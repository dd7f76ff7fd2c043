"""`univseg new`: a configuration out of folders, and what is said of those that give none."""

import json
from pathlib import Path

from command_lines import assert_fails
import numpy as np
import pytest
from tiny_worlds import TRAIN, VALIDATION
from univseg_core.cli import main
from univseg_core.domains import Domain
from univseg_core.machine.gpus import Gpu
from univseg_core.pictures.images import write_png
from univseg_core.pictures.palette_png import write_palette_png
from univseg_core.places import configuration
from univseg_core.places.found import find_places
from univseg_core.settings.config import load_config
from univseg_core.settings.file import read_settings

ORIN = Gpu('Orin', '8.7', '12.6')
IMAGE = np.zeros((36, 48, 3), np.uint8)
LABEL = np.arange(36 * 48, dtype=np.uint8).reshape(36, 48) % 3


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder of a machine without a GPU."""
    monkeypatch.setattr(configuration, 'cuda_gpus', list)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder, picture=IMAGE, names=('a', 'b', 'c')):
    for name in names:
        write_png(Path(folder, f'{name}.png'), picture)


def labelled(images, labels, names=('a', 'b', 'c'), label=LABEL):
    fill(images, IMAGE, names)
    fill(labels, label, names)


def list_classes(folder, *names, name='classes.txt'):
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, name).write_text('\n'.join(names))


def found(*roots, labels=None):
    """Return (place, part, images, labels, list of classes) of all pairs, by names."""
    rows = []
    for place in find_places([Path(root) for root in roots], labels):
        for part, pairs in place.pairs.items():
            for pair in pairs:
                paths = (pair.images.path, pair.labels.path, pair.classes)
                rows.append((place.name, part, *(
                    path and path.relative_to(Path.cwd()).as_posix() for path in paths)))
    return rows


def test_two_worlds_become_a_configuration_that_holds(worlds, capsys):
    assert main(['new', 'my', str(worlds), '--json']) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        'file': 'my.yaml', 'recipe': 'cpu', 'domains': {
            'indoor': {'classes': 2, 'labelled': TRAIN, 'validation': VALIDATION,
                       'unlabelled': []},
            'outdoor': {'classes': 3, 'labelled': TRAIN, 'validation': VALIDATION,
                        'unlabelled': []}},
        'next': ['univseg data check my.yaml', 'univseg train my.yaml']}
    config = load_config('my.yaml')
    assert config.domains['outdoor'].train.images == worlds / 'outdoor' / 'train' / 'image'
    assert config.domains['indoor'].validation.labels == worlds / 'indoor/validation/label'
    assert config.domains['indoor'].classes == ['class_0', 'class_1']
    text = Path('my.yaml').read_text()
    assert '# optimiser steps · int ≥ 1 · default: 5000\n  steps: 1500' in text
    assert ('put names, in the order of the indices, into domains.indoor.classes, '
            'domains.outdoor.classes') in text
    assert main(['data', 'check', 'my.yaml', '--quiet']) == 0
    assert [path.name for path in Path().iterdir()] == ['my.yaml']


@pytest.mark.parametrize(('images', 'labels', 'place', 'part'), [
    ('yard/train/image', 'yard/train/label', 'yard', 'train'),
    ('yard/images/val', 'yard/masks/val', 'yard', 'validation'),
    ('yard/rgb', 'yard/gt', 'yard', 'train'),
    ('yard/train', 'yard/trainannot', 'yard', 'train'),
    ('yard/test_images', 'yard/test_labels', 'yard', 'test'),
    ('yard', 'yard/labels', 'yard', 'train'),
    ('yard/Hall 2/img', 'yard/Hall 2/SegmentationClass', 'hall_2', 'train'),
    ('yard/a/b/images', 'yard/a/b/labels', 'a_b', 'train'),
    ('yard/segmentation/images', 'yard/segmentation/labels', 'segmentation', 'train'),
    ('yard/labelled/images', 'yard/labelled/labels', 'yard', 'train'),
    ('yard/Labeled/hall/image', 'yard/Labeled/hall/gt_image', 'hall', 'train'),
    ('yard/masks/train_images', 'yard/masks/train_masks', 'masks', 'train'),
    ('yard/raw', 'yard/labelled', 'yard', 'train'),
    ('yard/segmentation/color', 'yard/segmentation/semantic', 'segmentation', 'train'),
    ('yard/segmentation/hall', 'yard/segmentation/hall/labels', 'segmentation_hall', 'train'),
])
def test_folders_are_paired_by_their_names(images, labels, place, part):
    labelled(images, labels)
    assert found('yard') == [(place, part, images, labels, None)]


def test_a_part_may_be_given_by_itself():
    labelled('yard/train/image', 'yard/train/label')
    labelled('yard/val/image', 'yard/val/label')
    assert [row[:2] for row in found('yard/train', 'yard/val')] == [
        ('yard', 'train'), ('yard', 'validation')]


def test_label_maps_are_known_by_one_channel_where_no_name_tells():
    labelled('yard/left', 'yard/right')
    assert found('yard') == [('yard', 'train', 'yard/left', 'yard/right', None)]


def test_a_place_begins_where_its_list_of_classes_lies():
    labelled('site/yard/monday/image', 'site/yard/monday/label')
    labelled('site/yard/friday/image', 'site/yard/friday/label', names=('d', 'e'))
    fill('site/yard/tuesday', names=('f',))
    list_classes('site/yard', 'ground', 'wall', 'tree')
    assert {row[0] for row in found('site')} == {'yard'}
    assert main(['new', 'my', 'site']) == 0
    section = load_config('my.yaml').domains['yard']
    assert section.train.images == Path.cwd() / 'site/yard/friday/image'
    assert [each.images for each in section.train_also] == [
        Path.cwd() / 'site/yard/monday/image']
    assert section.classes == ['ground', 'wall', 'tree']
    assert section.unlabelled == [Path.cwd() / 'site/yard/tuesday']
    assert section.validation is None
    assert section.validation_from_train == 1  # a fifth of five


def test_unlabelled_images_are_no_label_maps_by_their_names():
    for place in ('outdoor', 'indoor'):
        labelled(f'worlds/{place}/train/image', f'worlds/{place}/train/label')
        fill(f'worlds/{place}/unlabelled/image', names=('a', 'd'))
        fill(f'worlds/{place}/test/image', names=('e',))
    assert [(place.name, place.unlabelled) for place in find_places([Path('worlds')])] == [
        (name, [Path.cwd() / 'worlds' / name / 'unlabelled' / 'image'])
        for name in ('indoor', 'outdoor')]


def test_images_of_no_place_are_left_out_and_told(caplog):
    labelled('yard/images', 'yard/labels')
    fill('yard/pictures', names=('d',))
    fill('yard/holiday', names=('e',))
    (place,) = find_places([Path('yard')])
    assert place.unlabelled == [Path.cwd() / 'yard/pictures']
    assert 'yard/holiday: 1 images without label maps, and of no place' in caplog.text


def test_one_of_several_kinds_of_labels_is_named():
    labelled('hall/image', 'hall/label40')
    labelled('hall/image', 'hall/label13')
    labelled('yard/image', 'yard/label')
    for count in (13, 40):
        list_classes('hall', *map(str, range(count)), name=f'classes{count}.txt')
    assert found('hall', 'yard', labels='label13') == [
        ('hall', 'train', 'hall/image', 'hall/label13', 'hall/classes13.txt'),
        ('yard', 'train', 'yard/image', 'yard/label', None)]


PALETTE = [[9, 9, 200], [9, 200, 9], [200, 9, 9], *([i, i, i] for i in range(253))]


@pytest.mark.parametrize(('arguments', 'classes', 'palette'), [
    ([], ['class_0', 'class_1', 'class_2'], PALETTE[:3]),
    (['--background', 'void'], ['class_1', 'class_2'], PALETTE[1:3])])
def test_a_palette_of_label_maps_is_that_of_the_classes(arguments, classes, palette):
    fill('yard/images')
    for name in 'abc':
        write_palette_png(Path('yard/labels', f'{name}.png'), LABEL, PALETTE)
    assert main(['new', 'my', 'yard', *arguments]) == 0
    domain = load_config('my.yaml').domain('yard')
    assert domain == Domain.create('yard', classes, palette)
    assert main(['data', 'check', 'my.yaml', '-q']) == 0


def test_masks_are_what_was_painted():
    labelled('yard/images', 'yard/masks', label=np.where(LABEL, np.uint8(255), np.uint8(0)))
    list_classes('yard', 'ground', 'tree')
    assert main(['new', 'my', 'yard', '--painted', 'tree', '--background', 'ground']) == 0
    train = load_config('my.yaml').domains['yard'].train
    assert (train.painted, train.background) == ('tree', 'ground')


@pytest.mark.parametrize(('gpu', 'precision'), [('8.7', 'bf16-mixed'), ('7.2', '16-mixed'),
                                                ('6.1', '32-true')])
def test_a_machine_with_a_gpu_gets_the_recipe_for_one(worlds, monkeypatch, capsys, gpu,
                                                      precision):
    monkeypatch.setattr(configuration, 'cuda_gpus', lambda: [Gpu('x', gpu, '12.6')])
    assert main(['new', 'my', str(worlds)]) == 0
    assert 'my.yaml: written, for a GPU' in capsys.readouterr().out
    config = load_config('my.yaml')
    assert config.model.encoder == read_settings('camvid_nyuv2_gpu', 'train')[1]['model'][
        'encoder']
    assert config.training.precision == precision
    assert (config.data.image_size, config.data.crop_size) == (64, 32)


@pytest.mark.parametrize(('machine', 'size', 'expected'), [
    ([], (360, 480), (240, 160)), ([ORIN], (360, 480), (480, 352)),
    ([ORIN], (720, 1280), (640, 352)), ([], (20, 24), (32, 32))])
def test_images_are_scaled_as_the_recipe_has_it(machine, size, expected):
    data = configuration._settings(machine, [size])['data']
    assert (data['image_size'], data['crop_size']) == expected


def test_a_file_that_is_there_stays(capsys):
    labelled('yard/images', 'yard/labels')
    Path('my.yaml').write_text('mine')
    for name in ('my', 'my.yaml'):
        assert_fails(capsys, ['new', name, 'yard'], 'my.yaml: there is one already')
    assert Path('my.yaml').read_text() == 'mine'


def two_lists():
    labelled('yard/images', 'yard/labels')
    for name in ('classes_a.txt', 'classes_b.txt'):
        list_classes('yard', 'x', name=name)


def coloured_labels():
    labelled('yard/images', 'yard/labels', label=IMAGE)


def same_names():
    for folder in ('yard/a', 'yard/b'):
        labelled(f'{folder}/x/images', f'{folder}/x/labels')
        list_classes(f'{folder}/x', 'one', 'two', folder)


def palette_with_background():
    fill('yard/images')
    for name in 'abc':
        write_palette_png(Path('yard/labels', f'{name}.png'), LABEL,
                          [[0, 0, 0], [9, 200, 9], [200, 9, 9], *PALETTE[3:]])


@pytest.mark.parametrize(('make', 'messages'), [
    (lambda: None, ['yard: cannot be read: No such file']),
    (lambda: Path('yard').mkdir(), ['yard: no folder in it has images (.png, ']),
    (lambda: fill('yard/images'), ['images, but no label maps of them', 'beside images']),
    (lambda: fill('yard/labels', LABEL), ['labels: label maps without images', 'a.jpg']),
    (lambda: (labelled('yard/images', 'yard/labels'), fill('yard/masks', LABEL)),
     ['2 folders of label maps fit', 'labels and masks', '--labels NAME']),
    (lambda: (fill('yard/images'), fill('yard/labels', LABEL, ('d',))),
     ['label maps without images', 'd.jpg']),
    (two_lists, ['several lists of class names (classes_a.txt, classes_b.txt)']),
    (coloured_labels, ['labels/a.png', 'expected a label map of one 8-bit channel',
                       'docs/labelling.md']),
    (palette_with_background, ['of a background. Is 0 void', 'Say --background void']),
    (lambda: labelled('yard/images', 'yard/masks', label=LABEL // 2 * 255),
     ['each of the 3 label maps has the values 0 and 255 alone', '--painted CLASS']),
    (lambda: (labelled('yard/images', 'yard/labels'), list_classes('yard', 'one')),
     ['label indices [1, 2] are outside domain yard']),
    (lambda: (labelled('yard/images', 'yard/labels'), list_classes('yard', 'a', 'a', 'b')),
     ['classes.txt: domain yard: class names repeat']),
    (lambda: (labelled('yard/images', 'yard/labels'), list_classes('yard')),
     ['classes.txt: expected one class name a line']),
    (lambda: labelled('yard/images', 'yard/labels', label=LABEL + np.uint8(100)),
     ['no list of class names', 'values go up to 102']),
    (lambda: labelled('yard/images', 'yard/labels', label=LABEL * 0 + np.uint8(255)),
     ['label maps are void everywhere']),
    (lambda: labelled('yard/images', 'yard/labels', names=('a',)), ['one labelled image']),
    (lambda: labelled('yard/val/images', 'yard/val/labels'),
     ['yard: no labelled images to learn from', 'call a folder of them train']),
    (same_names, []),
])
def test_what_gives_no_configuration_is_told_in_a_sentence(capsys, make, messages):
    make()
    if messages:
        assert_fails(capsys, ['new', 'my', 'yard'], *messages)
        assert not list(Path().glob('*.yaml'))
        assert not list(Path().glob('.*'))
    else:  # two places, as their folders have other names
        assert main(['new', 'my', 'yard']) == 0


def test_two_places_of_one_name_are_told_apart(capsys):
    for folder in ('one/yard', 'two/yard'):
        labelled(f'{folder}/images', f'{folder}/labels')
        list_classes(folder, 'a', 'b', folder)
    assert_fails(capsys, ['new', 'my', 'one/yard', 'two/yard'],
                 'two places are called yard, with other classes')


def test_a_folder_that_expands_to_another_is_refused_and_nothing_is_left(capsys):
    labelled('$NOWHERE/images', '$NOWHERE/labels')
    assert_fails(capsys, ['new', 'my', '$NOWHERE'], 'variable NOWHERE is not set')
    assert not list(Path().glob('*my*'))


@pytest.mark.parametrize('name', ['', '.', '..', '/', 'q.txt', 'a b', '.yaml', 'my.', 'a\nb'])
def test_what_is_no_name_is_refused(capsys, name):
    labelled('yard/images', 'yard/labels')
    assert_fails(capsys, ['new', name, 'yard'], 'expected a name for the configuration first')
    assert [path.name for path in Path().iterdir()] == ['yard']


@pytest.mark.parametrize(('name', 'file'), [
    ('my.yml', 'my.yml'), ('hall-2.1', 'hall-2.1.yaml'), ('é', 'é.yaml'),
    ('yard.yaml', 'yard.yaml'), ('yard/my', 'yard/my.yaml')])
def test_a_name_becomes_a_file(name, file):
    labelled('yard/images', 'yard/labels')
    assert main(['new', name, 'yard']) == 0
    assert Path(file).is_file()


@pytest.mark.parametrize('name', ['yard', 'yard/'])
def test_a_forgotten_name_drops_no_place(capsys, name):
    for place in ('yard', 'hall'):
        labelled(f'{place}/images', f'{place}/labels')
    assert_fails(capsys, ['new', name, 'hall'],
                 'yard is a folder; a name comes first: univseg new my yard hall')
    assert not list(Path().glob('*.yaml'))


def test_commands_to_copy_quote_the_file(capsys):
    labelled('yard/images', 'yard/labels')
    assert main(['new', 'my yard/a', 'yard']) == 0
    assert "next: univseg data check 'my yard/a.yaml'" in capsys.readouterr().out
    assert "#   univseg train 'my yard/a.yaml'" in Path('my yard/a.yaml').read_text()


@pytest.mark.parametrize('name', ['nosuch', 'images', 'yard'])
def test_labels_that_no_folder_is_called_are_an_error(capsys, name):
    labelled('yard/images', 'yard/labels')
    assert_fails(capsys, ['new', 'my', 'yard', '--labels', name],
                 f'--labels {name}: no label maps lie in a folder of that name',
                 'there are yard/labels')


@pytest.mark.parametrize('pictures', ['yard/unlabelled', 'more/yard', 'pictures'])
def test_a_folder_of_images_alone_is_of_the_place_that_another_has(pictures):
    labelled('yard/labelled/images', 'yard/labelled/labels')
    fill(pictures, names=('d',))
    for roots in (['yard/labelled', pictures], [pictures, 'yard/labelled']):
        (place,) = find_places(list(map(Path, roots)))
        assert (place.name, place.unlabelled) == ('yard', [Path.cwd() / pictures])


def test_a_folder_of_images_alone_that_is_of_no_place_is_an_error(capsys):
    labelled('yard/images', 'yard/labels')
    fill('hall', names=('d',))
    assert_fails(capsys, ['new', 'my', 'yard', 'hall'],
                 'hall: images, but no label maps of them', 'the place that they are of (yard)')


def test_folders_count_once():
    labelled('yard/images', 'yard/labels')
    assert found('yard', 'yard', Path.cwd() / 'yard') == found('yard')


@pytest.mark.parametrize('folders', [['yard', '.'], ['.', 'yard']])
def test_a_folder_inside_another_is_an_error(capsys, folders):
    labelled('yard/images', 'yard/labels')
    assert_fails(capsys, ['new', 'my', *folders], 'yard: lies in ., which is given, too')


def test_all_label_maps_are_counted_those_to_measure_with_too():
    labelled('yard/train/images', 'yard/train/labels', names=tuple(map(str, range(60))))
    write_png(Path('yard/train/labels/31.png'), LABEL + np.uint8(3))
    assert main(['new', 'my', 'yard']) == 0
    assert len(load_config('my.yaml').domains['yard'].classes) == 6
    labelled('yard/val/images', 'yard/val/labels', label=LABEL + np.uint8(5))
    assert main(['new', 'more', 'yard']) == 0
    assert len(load_config('more.yaml').domains['yard'].classes) == 8


def test_images_and_labels_given_apart_are_told_how_to_be_given(capsys):
    labelled('yard/images', 'yard/labels')
    assert_fails(capsys, ['new', 'my', 'yard/images', 'yard/labels'],
                 'labels: label maps without images', 'name the folder that both lie in')
