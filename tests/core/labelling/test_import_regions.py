"""Regions of annotation tools come back as a labelled folder, counted before it is written."""

import json
import re
import shutil

from label_maps import contents, YARD
import numpy as np
from PIL import Image
import pytest
from regions_file import BOXES
from univseg_core.annotations import formats
from univseg_core.annotations.regions import AnnotatedImage, Bits, Region
from univseg_core.cli import main
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.labelling.class_names import ClassNames
from univseg_core.labelling.frame_names import FrameNames
from univseg_core.labelling.label_import import import_labels
from univseg_core.labelling.returned_regions import regions_by_frame
from univseg_core.pictures.images import write_png


@pytest.fixture
def boxes(monkeypatch, tmp_path):
    """Return a function that writes a file of lines, and frames a, b and c of 2 by 4 pixels."""
    monkeypatch.setitem(formats.FORMATS, 'boxes', BOXES)
    for i, name in enumerate('abc'):
        write_png(tmp_path / 'frames' / f'{name}.png', np.full((2, 4, 3), 50 * i, np.uint8))

    def write(*lines, name='x.boxes'):
        (tmp_path / name).write_text(''.join(f'{line}\n' for line in lines))
        return tmp_path / name
    return write


def run(source, out, background=255, domain=YARD, renamed=None):
    frames = FrameNames(sorted((source.parent / 'frames').iterdir()))
    returned = regions_by_frame(BOXES.read(source), frames, ClassNames(domain, renamed or {}),
                                background)
    return import_labels(returned, out, domain, progress=False)


def label(out, name):
    return np.array(Image.open(out / 'label' / f'{name}.png')).tolist()


def test_regions_are_painted_in_their_order_and_the_rest_is_void(boxes, tmp_path):
    source = boxes('a.png: grass 0 0 4 1; Car 1 0 3 2', 'some/b.jpg@2x4: wall 0 0 9 9', 'c.png:')
    done = run(source, tmp_path / 'out')
    assert (done.added, done.empty, done.unlabelled) == (['a', 'b'], [], ['c'])
    assert label(tmp_path / 'out', 'a') == [[0, 2, 2, 0], [255, 2, 2, 255]]
    assert label(tmp_path / 'out', 'b') == [[1] * 4] * 2
    before = contents(tmp_path / 'out')
    assert run(source, tmp_path / 'out').unchanged == ['a', 'b']
    assert contents(tmp_path / 'out') == before


def test_what_nobody_painted_may_be_a_class_but_not_where_nobody_painted_anything(boxes, tmp_path):
    done = run(boxes('a.png: grass 0 0 4 1', 'c.png:'), tmp_path / 'out', background=1)
    assert (done.added, done.empty, done.unlabelled) == (['a'], [], ['c'])
    assert label(tmp_path / 'out', 'a') == [[0] * 4, [1] * 4]


def test_labels_of_no_class_are_void_unless_a_class_is_called_so(boxes, tmp_path):
    grass, nobody, ignored = (
        Region(name, Bits(np.ones((1, 2), bool), left, 0), name)
        for name, left in (('grass', 0), ('_background_', 1), ('out', 2)))
    boxes()
    image = AnnotatedImage('a', None, (grass, nobody, ignored), tmp_path / 'x.boxes',
                           void=frozenset({'_background_', 'out'}))
    for i, (classes, background, row) in enumerate((
            (['grass', 'wall'], 255, [0, 255, 255, 255]), (YARD.classes, 1, [0, 1, 255, 255]),
            (['grass', 'out'], 255, [0, 255, 1, 1]),
            (['grass', '_background_'], 255, [0, 1, 255, 255]))):
        domain, told = Domain.create('d', classes), []
        frames = FrameNames(sorted((tmp_path / 'frames').iterdir()))
        returned = regions_by_frame([image], frames, ClassNames(domain), background)
        import_labels(returned, tmp_path / f'out{i}', domain, told.append, progress=False)
        assert label(tmp_path / f'out{i}', 'a')[0] == row
        objects = [each['objects'] for each in told[0].counts.rows()]
        assert objects == [int(name in ('grass', 'out', '_background_')) for name in classes] + [0]


@pytest.mark.parametrize(('void', 'classes', 'row', 'dropped'), [
    (('ground', 'sky'), ['Ground', 'wall'], [0, 255, 255, 255], {'sky': 1}),
    (('background',), ['Background', 'wall'], [0, 255, 255, 255], {}),
    (('_background_',), ['background', 'wall'], [255] * 4, {'_background_': 1}),
    (('background', 'Background'), ['Background', 'wall'], [255, 0, 255, 255],
     {'background': 1})])
def test_a_void_label_is_a_class_where_only_its_case_differs(boxes, tmp_path, void, classes, row,
                                                             dropped):
    boxes()
    regions = [Region(label, Bits(np.ones((1, 1), bool), left, 0), label)
               for left, label in enumerate(void)]
    wall = Region('wall', Bits(np.ones((1, 4), bool), 0, 1), 'wall')
    image = AnnotatedImage('a', None, (*regions, wall), tmp_path / 'x', void=frozenset(void))
    names = ClassNames(Domain.create('d', classes))
    frames = FrameNames([tmp_path / 'frames' / 'a.png'])
    import_labels(regions_by_frame([image], frames, names), tmp_path / 'out', names.domain,
                  progress=False)
    assert label(tmp_path / 'out', 'a')[0] == row
    assert names.dropped == dropped


def test_all_that_is_wrong_is_told_with_file_image_and_object(boxes, tmp_path):
    source = boxes('a.png@2x5: grass 0 0 4 1', 'b.png: roof 0 0 1 1; roof 1 0 2 1; car 0 0 1 1',
                   'gone.png: grass 0 0 1 1', 'nothing.png:', 'c.png: grass 0 0 4 1',
                   'c.jpg: car 0 0 4 1', 'c.png: grass 0 0 1')
    with pytest.raises(UnivsegError) as told:
        run(source, tmp_path / 'new' / 'out')
    first, *problems = str(told.value).splitlines()
    assert first == '5 problems, so that nothing is written:'
    for problem, text in zip(problems, (
            'a.png: annotated at 5×2 pixels, but the frame is 4×2',
            'gone.png (box 1): no frame is called so',
            'c.jpg: c.png is labelled twice, and differently: {}: c.png is of it, too',
            'c.png: box 1: expected a label and 4 numbers, got grass 0 0 1',
            "'roof' is no class of yard: 2 objects in 1 image, the first {}: b.png: box 1; say "
            '--map roof=CLASS or --map roof=void'), strict=True):
        assert problem.strip().removeprefix(f'{source}: ') == text.format(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['frames', 'x.boxes']


def test_the_same_labels_twice_count_once(boxes, tmp_path):
    source = boxes('a.png:', 'a.png: grass 0 0 4 1', 'x/a.jpg: grass 0 0 4 1', 'a.png:')
    told = []
    frames = FrameNames(sorted((tmp_path / 'frames').iterdir()))
    done = import_labels(regions_by_frame(BOXES.read(source), frames, ClassNames(YARD)),
                         tmp_path / 'out', YARD, told.append, progress=False)
    assert (done.added, done.empty, done.unlabelled) == (['a'], [], [])
    assert told[0].counts.rows()[0] == {'class': 'grass', 'objects': 1, 'images': 1, 'pixels': 4,
                                        'share': 0.5}


def command(source, tmp_path, *options):
    return ['import-labels', str(source), '--frames', str(tmp_path / 'frames'), '--out',
            str(tmp_path / 'out'), '--domain', 'yard', *options]


@pytest.fixture
def yard(monkeypatch):
    """Let every configuration be one of YARD, with a class that wants forgiving."""
    domain = Domain.create('yard', [*YARD.classes, 'tall tree'], [*YARD.palette, (1, 1, 1)])
    monkeypatch.setattr('univseg_core.commands.label_import._domain',
                        lambda options: (domain, None))
    return domain


def test_the_format_is_named_and_classes_are_counted_before_anything_is_written(
        boxes, yard, tmp_path, capsys):
    source = boxes('a.png: grass 0 0 4 1; Tall_Tree 0 1 1 2', 'b.png: lorry 0 0 4 1')
    line = command(source, tmp_path, '--config', 'any', '--map', 'lorry=car')
    assert main([*line, '--dry-run', '--sheet', str(tmp_path / 'sheet.png')]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f'{source}: boxes, 2 frames with labels',
        'taken for classes: Tall_Tree → tall tree',
        'by --map: lorry → car',
        'class      objects  images  pixels    share',
        'grass            1       1       4  25.00 %',
        'wall             0       0       0   0.00 %',
        'car              1       1       4  25.00 %',
        'tall tree        1       1       1   6.25 %',
        'void             0       2       7  43.75 %',
        'nothing is written (--dry-run)']
    assert not (tmp_path / 'out').exists()
    sheet = (tmp_path / 'sheet.png').read_bytes()
    assert main([*line, '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['classes'][3] == {'class': 'tall tree', 'objects': 1, 'images': 1, 'pixels': 1,
                                  'share': 0.0625}
    assert (told['format'], told['forgiven'], told['added']) == (
        'boxes', {'Tall_Tree': 'tall tree'}, ['a', 'b'])
    assert (tmp_path / 'out' / 'import.png').read_bytes() == sheet
    assert main(line) == 0
    again = capsys.readouterr().out.splitlines()
    assert again[:9] == out[:9]
    assert again[9] == f'{tmp_path / "out"}: 0 label maps added, 0 replaced, 2 as they were'


def test_frames_may_be_in_folders_if_no_two_that_are_labelled_are_called_alike(
        boxes, yard, tmp_path, capsys):
    source = boxes('a.png: grass 0 0 4 1', 'right/b.png: car 0 0 4 1')
    for name in ('left', 'right'):
        (tmp_path / 'frames' / name).mkdir()
    (tmp_path / 'frames' / 'c.png').rename(tmp_path / 'frames' / 'right' / 'c.png')
    (tmp_path / 'frames' / 'a.png').rename(tmp_path / 'frames' / 'left' / 'a.png')
    (tmp_path / 'frames' / 'b.png').rename(tmp_path / 'frames' / 'right' / 'b.png')
    assert main(command(source, tmp_path, '--config', 'any', '--json')) == 0
    assert json.loads(capsys.readouterr().out)['added'] == ['a', 'b']
    assert sorted(path.name for path in (tmp_path / 'out' / 'image').iterdir()) == [
        'a.png', 'b.png']
    (tmp_path / 'frames' / 'right' / 'c.png').rename(tmp_path / 'frames' / 'right' / 'a.jpg')
    assert main(command(source, tmp_path, '--config', 'any', '--json')) == 0
    assert json.loads(capsys.readouterr().out)['unchanged'] == ['a', 'b']
    shutil.rmtree(tmp_path / 'out')
    source = boxes('left/a.png: grass 0 0 4 1', 'right/a.jpg: car 0 0 4 1')
    assert main(command(source, tmp_path, '--config', 'any')) == 1
    assert (f'right/a.jpg: has the same name as {tmp_path / "frames/left/a.png"}, and both are '
            'labelled') in capsys.readouterr().err


def test_label_maps_do_not_tell_frames_of_one_name_apart(yard, tmp_path, capsys):
    for folder, name in (('left', 'a'), ('right', 'a'), ('right', 'b')):
        write_png(tmp_path / 'all' / folder / f'{name}.png', np.zeros((2, 4, 3), np.uint8))
    for name in 'ab':
        write_png(tmp_path / 'maps' / f'{name}.png', np.ones((2, 4), np.uint8))
    line = ['import-labels', str(tmp_path / 'maps'), '--frames', str(tmp_path / 'all'), '--out',
            str(tmp_path / 'out'), '--domain', 'yard', '--config', 'any', '--json']
    assert main(line) == 1
    assert 'a.png: several frames are called a, in folders of their own' in capsys.readouterr().err
    (tmp_path / 'maps' / 'a.png').unlink()
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out)['added'] == ['b']


def test_a_labelled_folder_among_the_frames_holds_no_frames(boxes, yard, tmp_path, capsys):
    source = boxes('a.png: grass 0 0 4 1')
    (tmp_path / 'some').mkdir()
    (tmp_path / 'frames').rename(tmp_path / 'some' / 'day')
    for added in (['a'], []):
        line = ['import-labels', str(source), '--frames', str(tmp_path / 'some'), '--domain',
                'yard', '--config', 'any', '--out', str(tmp_path / 'some' / 'out'), '--json']
        assert main(line) == 0
        assert json.loads(capsys.readouterr().out)['added'] == added


@pytest.mark.parametrize(('options', 'message'), [
    (['--format', 'boxs'], '--format boxs: expected one of masks, '),
    (['--map', 'grass=roof'], "--map grass=roof: yard has no class 'roof'"),
    (['--map', 'x=car', '--map', 'x=wall'], '--map x: expected one new name, got car and wall'),
    (['--background', 'roof'], '--background: expected void or one of the classes'),
    (['--painted', 'car'], '--painted is of label maps alone, but '),
    (['--sheet', '.'], '--sheet .: expected the name of a file, got a folder'),
    (['--format', 'masks'], 'x.boxes: a file; expected a folder of PNGs')])
def test_options_that_do_not_fit_are_told(boxes, yard, tmp_path, capsys, options, message):
    source = boxes('a.png: grass 0 0 4 1')
    assert main(command(source, tmp_path, '--config', 'any', *options)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_background_is_forgiven_as_a_new_name_is(boxes, yard, tmp_path):
    source = boxes('a.png: grass 0 0 4 1')
    line = command(source, tmp_path, '--config', 'any', '--background', 'Tall_Tree')
    assert main(line) == 0
    assert label(tmp_path / 'out', 'a') == [[0] * 4, [3] * 4]


@pytest.mark.parametrize('text', ['a', '=a', 'a='])
def test_a_renaming_has_two_names(capsys, tmp_path, text):
    with pytest.raises(SystemExit):
        main(command('x', tmp_path, '--config', 'any', '--map', text))
    assert 'expected OLD=NEW' in capsys.readouterr().err


def test_a_source_without_labels_is_told(boxes, yard, tmp_path, capsys):
    assert main(command(boxes('gone.png:'), tmp_path, '--config', 'any')) == 1
    assert 'x.boxes: no frame is labelled in it' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(('lines', 'said'), [
    (['a.png:', 'b.png:'], 'no frame is labelled in it; of 2, it has no annotation'),
    (['a.png: lorry 0 0 4 1', 'b.png:'], 'no pixel is of a class of yard: of 1 frames, all is '
     'void, and of 1, there is no annotation')])
@pytest.mark.parametrize('options', [['--dry-run'], []])
def test_an_import_of_nothing_is_an_error(boxes, yard, tmp_path, capsys, lines, said, options):
    source = boxes(*lines)
    line = command(source, tmp_path, '--config', 'any', '--map', 'lorry=void', *options)
    assert main(line) == 1
    told = capsys.readouterr()
    assert f'{source}: {said}' in told.err
    assert told.out == ''
    assert not (tmp_path / 'out').exists()


def test_objects_outside_are_an_error_and_those_without_a_pixel_a_warning(
        boxes, yard, tmp_path, capsys, caplog):
    thin = [f'{name}.png: grass 0 0 4 1; car 1 0 1 2; car 4 0 4 2' for name in 'ab']
    source = boxes(*thin, 'c.png: grass 5 0 9 1; grass 0 0 4 1; wall 0 -3 4 -1')
    assert main(command(source, tmp_path, '--config', 'any')) == 1
    err = capsys.readouterr().err
    assert err.startswith(f'univseg import-labels: 1 problem, so that nothing is written:\n'
                          f'  {source}: c.png: 2 problems:\n    box')
    for what in ('box 1 (grass)', 'box 3 (wall)'):
        assert re.search(rf'{re.escape(what)}: x .* lie outside of the image of 4×2\n', err)
    assert main(command(boxes(*thin), tmp_path, '--config', 'any')) == 0
    assert (f'4 objects cover no pixel: {source}: a.png: box 2 (car), {source}: a.png: box 3 '
            f'(car), {source}: b.png: box 2 (car), …') in caplog.text
