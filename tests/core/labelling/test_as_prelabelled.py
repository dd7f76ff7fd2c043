"""Label maps that nobody has corrected are told, and corrected ones that were passed over."""

import json
import shutil
import zipfile

from label_maps import YARD
import numpy as np
import pytest
from tiny_worlds import random_image
from univseg_core.annotations.formats import FORMATS
from univseg_core.annotations.regions import AnnotationError
from univseg_core.cli import main
from univseg_core.labelling.as_prelabelled import (
    content_of,
    file_hash,
    Noted,
    Prelabels,
    write_list,
)
from univseg_core.labelling.prelabels import as_it_comes_back, PrelabelFolder
from univseg_core.pictures.images import write_png

FAR, NEAR = 'a' * 32, 'b' * 32

MASKS = {name: np.roll(np.repeat(np.uint8([0, 1, 2, 255]), 6)[:, None].repeat(32, 1), shift, 0)
         for name, shift in (('a', 0), ('b', 5), ('c', 9))}


@pytest.fixture
def to_correct(tmp_path, monkeypatch):
    """Return a function that makes to_correct/ of some formats, with MASKS of a, b and c."""
    monkeypatch.setattr('univseg_core.commands.label_import._domain',
                        lambda options: (YARD, None))

    def write(*formats):
        folder = PrelabelFolder(tmp_path / 'to_correct', YARD, formats)
        for seed, (name, mask) in enumerate(MASKS.items()):
            write_png(tmp_path / 'frames' / f'{name}.png', random_image(24, 32, seed))
            folder.add(tmp_path / 'frames' / f'{name}.png', mask, 0.9)
        folder.finish()
        return tmp_path / 'to_correct'
    return write


@pytest.fixture
def bring(tmp_path, capsys, caplog):
    """Return a function that imports a source: the status, what was told, and warnings."""
    def run(source, *options):
        status = main(['import-labels', str(source), '--frames', str(tmp_path / 'frames'),
                       '--config', 'any', '--domain', 'yard', '--out', str(tmp_path / 'out'),
                       '--json', *options])
        out, errors = capsys.readouterr()
        errors += caplog.text
        caplog.clear()
        return status, json.loads(out) if out else None, errors
    return run


def corrected(path, name):
    mask = MASKS[name].copy()
    mask[0, 0] = 1  # one pixel
    write_png(path / f'{name}.png', mask)


def test_what_is_shown_counts_and_not_by_which_indices():
    mask = np.uint8([[0, 1, 255]])
    same = content_of(mask, ['grass', 'car'])
    assert content_of(np.uint8([[2, 0, 255]]), ['car', 'wall', 'grass']) == same
    others = [content_of(mask, ['grass', 'wall']), content_of(mask.T, ['grass', 'car']),
              content_of(np.uint8([[0, 1, 1]]), ['grass', 'car']),
              content_of(np.uint8([[1, 0, 255]]), ['grass', 'car'])]
    assert len({same, *others}) == 5


def test_the_nearest_list_counts(tmp_path):
    frame, below = tmp_path / 'a.jpg', tmp_path / 'x' / 'y'
    below.mkdir(parents=True)
    assert Prelabels().noted(below / 'a.png', frame) is None
    write_list(tmp_path, {frame: FAR})
    assert Prelabels().noted(below / 'a.png', frame) == Noted(tmp_path, FAR, frozenset())
    write_png(below / 'a.png', MASKS['a'])
    write_png(below.parent / 'images' / 'a.png', MASKS['b'])
    write_list(tmp_path / 'x', {frame: NEAR})
    lists = Prelabels()
    assert lists.noted(below / 'a.png', frame) == Noted(
        below.parent, NEAR, frozenset([file_hash(below / 'a.png')]))
    assert lists.noted(below / 'a.png', tmp_path / 'b.jpg') is None


@pytest.mark.parametrize(('text', 'why'), [
    ('image\na\n', 'expected the columns frame, content, files'),
    (f'frame,content,files\na,{FAR},\nb,0123', 'row 2 is no name with hashes'),
    (f'frame,content,files\na,{FAR},{NEAR} 01\n', 'row 1 is no name with hashes'),
    (f'frame,content,files\na,{FAR},,\n', 'row 1 is no name with hashes'), ('', 'columns'),
    ('frame;content;files\n', 'expected the columns')])
def test_a_list_that_is_damaged_says_nothing_but_that(tmp_path, caplog, text, why):
    write_list(tmp_path, {tmp_path / 'a.jpg': FAR})
    (tmp_path / 'x' / 'y').mkdir(parents=True)
    (tmp_path / 'x' / 'prelabels.csv').write_text(text)
    lists = Prelabels()
    for place in (tmp_path / 'x', tmp_path / 'x' / 'y'):
        assert lists.noted(place / 'a.png', tmp_path / 'a.jpg') is None
    message, = caplog.messages
    assert f'{tmp_path}/x/prelabels.csv: what prelabel noted' in message and why in message


@pytest.mark.parametrize('name', ['labelme', 'coco-polygons', 'cvat-polygons'])
def test_polygons_are_known_as_they_come_back(name):
    mask = np.where(np.add.outer(np.arange(24) ** 2, np.arange(32) ** 2) < 400, 1, 0)
    back = as_it_comes_back(FORMATS[name], YARD, mask.astype(np.uint8))
    assert 0 < (back != mask).mean() < 0.02


def test_polygons_that_cannot_be_read_here_are_not_listed(monkeypatch, to_correct, bring):
    def missing():
        raise AnnotationError('no pycocotools')
    with monkeypatch.context() as without:
        without.setattr('univseg_core.annotations.regions.coco_masks', missing)
        folder = to_correct('cvat-polygons')
    assert (folder / 'prelabels.csv').read_text() == 'frame,content,files\n'
    assert bring(folder)[1]['as_prelabelled'] == []


def test_some_and_all_that_are_as_they_were_are_told(to_correct, bring):
    folder = to_correct('masks')
    corrected(folder / 'labels', 'b')
    status, told, errors = bring(folder / 'labels')
    assert (status, told['as_prelabelled'], told['not_read']) == (0, ['a', 'c'], [])
    assert '2 of 3 label maps are as prelabel wrote them: a, c' in errors
    for name in 'ac':
        corrected(folder / 'labels', name)
    status, told, errors = bring(folder / 'labels')
    assert (status, told['as_prelabelled'], errors) == (0, [], '')


@pytest.mark.parametrize(('formats', 'source', 'form', 'place'), [
    (['masks'], '', 'cvat-masks', 'labels'),
    (['cvat'], '', 'cvat', 'SegmentationClass'),
    (['cvat'], 'annotations.xml', 'cvat', 'export/SegmentationClass'),
    (['labelme'], '', 'labelme', 'images/masks'),
    (['coco', 'cvat'], 'coco', 'coco', 'SegmentationClass')])
def test_corrected_pngs_are_not_passed_over(to_correct, bring, tmp_path, formats, source, form,
                                            place):
    folder = to_correct(*formats)
    place = (folder / 'coco' if len(formats) > 1 else folder) / place
    for name in 'ab':
        corrected(place, name)
    for options in ([], ['--format', form]):
        status, told, errors = bring(folder / source, *options)
        assert (status, told) == (1, None)
        assert 'all 3 label maps are as prelabel wrote them: nobody has corrected any' in errors
        there = f'{place} (2: a.png, b.png)'
        assert f'2 PNGs are called as frames are, and not read: {there}' in errors
        assert f'so that nothing is written: {there}. Bring what is' in errors
        assert not (tmp_path / 'out').exists()


def test_corrections_in_two_places_are_not_lost(to_correct, bring, tmp_path):
    folder = to_correct('masks')
    mask = MASKS['a'] + np.uint8(1)
    mask[0, 0] = 2
    write_png(folder / 'SegmentationClass' / 'a.png', YARD.colourise(mask - np.uint8(1)))
    corrected(folder / 'labels', 'b')
    for source, other in ((folder, folder / 'labels' / 'b.png'), (folder / 'labels', folder)):
        status, _, errors = bring(source)
        assert status == 1 and '2 of 3 label maps are as prelabel' in errors
        assert f'{other.parent if other.suffix else other} (1: ' in errors
    corrected(folder / 'labels', 'a')
    (folder / 'labels' / 'b.png').unlink()
    status, told, errors = bring(folder)  # of what is corrected here, there may be more there
    assert (status, told['not_read']) == (0, [str(folder / 'labels' / 'a.png')])
    assert f'1 PNG is called as a frame is, and not read: {folder / "labels"} (1: a' in errors


def test_pngs_that_are_not_read_are_told_beside_others(to_correct, bring, tmp_path):
    folder = to_correct('masks')
    (folder / 'prelabels.csv').unlink()
    shutil.rmtree(folder / 'labels')
    for place in ('SegmentationObject', 'elsewhere'):
        corrected(folder / place, 'c')
    write_png(folder / 'elsewhere' / 'x.png', MASKS['a'])  # of no frame
    shutil.copy(tmp_path / 'frames' / 'a.png', folder / 'elsewhere')
    status, told, errors = bring(folder, '--dry-run')
    assert (status, told['as_prelabelled']) == (0, [])
    assert told['not_read'] == [str(folder / 'elsewhere' / 'c.png')]
    assert '1 PNG is called as a frame is, and not read' in errors
    assert bring(folder, '--out', str(folder / 'elsewhere'))[1]['not_read'] == []


@pytest.mark.parametrize(('formats', 'told'), [
    (['cvat', 'labelme'], r'several formats, each in a folder of its own: cvat/ (cvat), labelme/ '
                          '(labelme); name the folder that counts'),
    (['masks', 'fiftyone'], 'known, but the folders in it are: fiftyone/ (fiftyone), masks/ '
                            '(cvat-masks); name the one that counts')])
def test_the_folder_of_several_formats_is_none_itself(to_correct, bring, formats, told):
    folder = to_correct(*formats)
    status, _, errors = bring(folder)
    assert status == 1 and told in errors.replace('\n', ' ')


def test_a_folder_of_a_format_above_other_folders_is_told_of_these(to_correct, bring):
    """`cvat` is found from above; that there are masks as well is no error, if none is correct."""
    folder = to_correct('masks', 'cvat')
    status, told, _ = bring(folder)
    assert (status, told['format'], told['not_read']) == (0, 'cvat', [])
    corrected(folder / 'masks' / 'labels', 'a')
    status, _, errors = bring(folder)
    assert status == 1 and 'masks/labels (1: a.png)' in errors


def test_masks_of_the_first_class_and_void_alone_are_known(to_correct, bring, monkeypatch):
    """Nobody can tell what their values are, but that they are as they were."""
    monkeypatch.setitem(MASKS, 'a', np.where(MASKS['a'] == 0, 0, 255).astype(np.uint8))
    status, told, _ = bring(to_correct('masks'))
    assert (status, told['as_prelabelled'], told['not_read']) == (0, ['a', 'b', 'c'], [])


def test_masks_of_fiftyone_beside_another_format_are_known(to_correct, bring):
    folder = to_correct('coco', 'fiftyone')
    status, told, _ = bring(folder)
    assert (status, told['format'], told['not_read']) == (0, 'coco', [])
    corrected(folder / 'fiftyone' / 'labels', 'a')
    status, _, errors = bring(folder)
    assert status == 1 and f'{folder / "fiftyone"} (1: labels/a.png)' in errors


def test_an_archive_in_a_folder_of_which_nothing_is_corrected_is_told(to_correct, bring):
    folder = to_correct('labelme')
    with zipfile.ZipFile(folder / 'images' / 'export.zip', 'w') as archive:
        archive.writestr('a.json', '{}')
    status, _, errors = bring(folder)
    assert status == 1 and f'so that nothing is written: {folder}/images/export.zip. U' in errors
    file = folder / 'images' / 'a.json'
    shapes = json.loads(file.read_text())
    shapes['shapes'].pop()
    file.write_text(json.dumps(shapes))
    status, told, _ = bring(folder)
    assert (status, told['as_prelabelled']) == (0, ['b', 'c'])


@pytest.mark.parametrize('name', ['labelme', 'coco-polygons', 'cvat-polygons'])
def test_polygons_that_are_lossy_come_back_as_they_were(to_correct, bring, monkeypatch, name):
    disc = np.add.outer(np.arange(24) ** 2, np.arange(32) ** 2) < 400
    monkeypatch.setattr(f'{__name__}.MASKS', {'a': np.where(disc, 1, 0).astype(np.uint8)})
    assert bring(to_correct(name))[1]['as_prelabelled'] == ['a']


def test_a_link_to_nothing_is_no_label_map(to_correct, bring):
    folder = to_correct('cvat')
    (folder / 'x').mkdir()
    for name in ('x/a.png', 'b.png'):
        (folder / name).symlink_to('gone.png')
    assert bring(folder)[1]['not_read'] == []


@pytest.mark.parametrize(('form', 'part', 'read_as'), [
    ('fiftyone', 'labels', 'fiftyone'), ('masks', 'SegmentationClass', 'cvat-masks')])
def test_a_part_of_a_source_is_told_of_the_whole(to_correct, bring, tmp_path, monkeypatch, form,
                                                 part, read_as):
    folder = to_correct(form)
    told = f'{part}: a part of {folder} ({read_as}), which tells what its values are: name that'
    (tmp_path / 'link').symlink_to(folder / part)
    for source in (folder / part, tmp_path / 'link'):
        status, _, errors = bring(source)
        assert status == 1 and told.removeprefix(part) in errors
    monkeypatch.chdir(folder / part)
    assert told.removeprefix(part) in bring('.')[2]
    assert 'a part of' not in bring('.', '--format', 'masks')[2]
