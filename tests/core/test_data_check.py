"""`univseg data check`: what it tells of a configuration's files, and every fault at once."""

from functools import partial
import json
from pathlib import Path
import shutil

import cv2
import layout_trees
from layout_trees import codes, image
import numpy as np
from PIL import Image
import pytest
import tiny_worlds
from univseg_core.batches.check import alike_colours, as_text, check_data
from univseg_core.batches.dataset import load_data, load_validation
from univseg_core.batches.overlaps import look_of, overlaps
from univseg_core.cli import main
from univseg_core.datasets.folders import Sample
from univseg_core.domains import Domain
from univseg_core.pictures.images import read_label, write_png
from univseg_core.pictures.palette_png import write_palette_png
from univseg_core.settings.config import load_config


@pytest.fixture
def root(tmp_path):
    return layout_trees.camvid_grouped(tmp_path / 'camvid')


@pytest.fixture
def path(root, write_config):
    return write_config({'domains': {'street': {'dataset': 'camvid', 'root': str(root)}}})


def check(path, *overrides):
    (result,) = check_data(load_config(path, overrides), progress=False)
    return result


def test_counts_sizes_and_class_frequencies(root, path):
    """By hand: of 2 × 256 pixels to learn from, 64 are index 3, 64 void, 384 index 0."""
    label = codes(0)
    label[:2], label[2:4] = 3, 11
    for name in ('0001TP_006690', '0006R0_f00930'):
        write_png(root / 'trainannot' / f'{name}.png', label)
    write_png(root / 'train' / '0006R0_f00930.png', image()[:, :8])
    write_png(root / 'trainannot' / '0006R0_f00930.png', label[:, :8])
    parts = check(path).parts
    labelled = parts['labelled']
    assert (labelled.images, labelled.of, labelled.published) == (2, 2, (367,))
    assert labelled.sizes == {'16×16': 1, '8×16': 1}
    assert labelled.percent() == [75, 0, 0, 12.5, *[0] * 7, 12.5]
    validation = parts['validation']
    assert (validation.images, validation.published, validation.sizes) == (
        1, (101,), {'16×16': 1})
    assert validation.percent()[:3] == [22 / 2.56] * 3
    assert parts['unlabelled'].images == 0
    assert parts['unlabelled'].percent() is None


def test_the_labels_of_images_that_were_not_chosen_do_not_matter(root, path):
    other = check(path, 'domains.street.labelled=1')
    assert (other.parts['labelled'].images, other.parts['labelled'].of) == (1, 2)
    assert other.parts['unlabelled'].images == 1
    for label in (root / 'trainannot').iterdir():
        label.write_bytes(b'')
    problems = check(path, 'domains.street.labelled=1').problems
    assert len(problems) == 1


def test_no_number_was_published_where_training_images_are_set_aside(root, path):
    parts = check(path, 'domains.street.validation_from_train=1').parts
    assert [(parts[name].images, parts[name].of, parts[name].published)
            for name in ('labelled', 'validation')] == [(1, 1, ()), (1, 1, ())]


def test_images_set_aside_are_counted_with_those_they_were_taken_from(path, caplog):
    config = load_config(path, ['domains.street.validation_from_train=1'])
    load_validation(config, {'street': config.domain('street')})
    assert not caplog.text
    load_data(config)
    assert caplog.text.count('has 2 images of train; camvid was published with 367') == 1


def test_a_class_that_no_labelled_image_shows_is_a_warning(root, path):
    for label in (root / 'trainannot').iterdir():
        write_png(label, codes(*range(9), 11))
    result = check(path)
    assert not result.problems
    assert 'domains.street: no labelled image shows Pedestrian, Bicyclist' in result.warnings
    assert [warning for warning in result.warnings if 'published with 367' in warning]


def test_colours_that_are_hardly_told_apart_are_a_warning():
    """(100, 100, 100) and (104, 104, 104): L* of 42.4 and 44.0; a* and b* are 0."""
    grey, colours = (100, 100, 100), ((104, 104, 104), (200, 0, 0), (200, 30, 30))
    assert alike_colours(Domain.create('yard', ['a', 'b', 'c', 'd'], [grey, *colours])) == [
        'domains.yard.palette: colours that are hardly told apart: a and b']
    assert alike_colours(Domain.create('yard', [f'class {i}' for i in range(40)])) == []


def test_labels_that_are_all_void_are_a_problem(root, path):
    for label in (root / 'trainannot').iterdir():
        write_png(label, codes(11))
    assert check(path).problems == [
        'domains.street: every pixel of the labelled images is void']


def test_every_fault_is_told_at_once(root, path, tmp_path):
    more = tmp_path / 'more'
    write_png(more / 'a.png', image(1))
    (more / 'b.png').write_bytes((more / 'a.png').read_bytes()[:100])
    (root / 'train' / '0001TP_006690.png').write_bytes(b'no image')
    write_png(root / 'trainannot' / '0006R0_f00930.png', codes(3, 77))
    write_png(root / 'valannot' / '0016E5_07959.png', codes(3)[:4])
    result = check(path, f'domains.street.unlabelled=[{more}]')
    assert [problem.partition(':')[0] for problem in result.problems] == [
        str(root / 'train' / '0001TP_006690.png'),
        str(root / 'trainannot' / '0006R0_f00930.png'),
        str(more / 'b.png'),
        str(root / 'valannot' / '0016E5_07959.png')]
    assert '[77]' in result.problems[1]
    assert '16×4, its image 16×16' in result.problems[3]
    assert result.parts['unlabelled'].sizes == {'16×16': 1}


def test_a_part_that_cannot_be_listed_does_not_hide_the_others(root, path):
    (root / 'trainannot' / '0006R0_f00930.png').unlink()
    (root / 'val' / '0016E5_07959.png').write_bytes(b'')
    result = check(path)
    assert len(result.problems) == 2
    assert result.problems[0].startswith('domains.street.root: ')
    assert '1 of 2 label maps are missing' in result.problems[0]
    assert 'the file is empty' in result.problems[1]


def test_more_labels_than_there_are_is_a_problem(path):
    (problem,) = check(path, 'domains.street.labelled=3').problems
    assert problem.startswith('domains.street.labelled: 3 labelled images asked for')


def test_plain_folders_are_checked_too(values, write_config, worlds):
    checks = list(check_data(load_config(write_config(values)), progress=False))
    assert [c.domain.name for c in checks] == ['outdoor', 'indoor']
    for result in checks:
        assert not result.problems
        assert not result.warnings
        assert [part.images for part in result.parts.values()] == [6, 2, 4]
        assert result.parts['labelled'].published == ()
        assert sum(result.parts['labelled'].percent()) == pytest.approx(100)


def test_the_text_has_a_table_of_parts_and_one_of_classes(root, path):
    text = as_text('street', check(path, 'domains.street.held_out=test'))
    lines = text.splitlines()
    assert lines[0] == '## street (camvid, 11 classes)'
    assert '| labelled | 2 | 367 | 16×16 |' in lines
    assert '| validation | 1 | 233 | 16×16 |' in lines
    assert '| Building   |        8.59 |          8.59 |' in lines
    assert '| void       |        8.20 |          8.20 |' in lines
    assert 'problems:' not in lines


def test_the_command_prints_it_and_its_exit_status_tells(root, path, capsys):
    assert main(['data', 'check', str(path)]) == 0
    assert capsys.readouterr().out.startswith('## street (camvid, 11 classes)\n')
    (root / 'train' / '0001TP_006690.png').write_bytes(b'no image')
    assert main(['data', 'check', str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.endswith('univseg data: 1 problem found\n')
    assert captured.out.rstrip().splitlines()[-2] == 'problems:'


def test_the_command_writes_json(path, capsys):
    assert main(['data', 'check', str(path), '--json', 'domains.street.labelled=1']) == 0
    street = json.loads(capsys.readouterr().out)['street']
    assert street['dataset'] == 'camvid'
    assert street['problems'] == []
    labelled = street['parts']['labelled']
    assert (labelled['images'], labelled['of'], labelled['published'], labelled['sizes']) == (
        1, 2, [367], {'16×16': 1})
    assert list(labelled['percent']) == [*street['classes'], 'void']
    assert street['parts']['unlabelled']['percent'] is None


@pytest.fixture
def own(values, write_config, worlds, tmp_path):
    """Return a function that checks the tiny indoor world, whose files a test may spoil."""
    shutil.copytree(worlds / 'indoor', tmp_path / 'indoor')
    section = tiny_worlds.configuration(tmp_path)['domains']['indoor'] | {'labelled': None}
    values['domains'] = {'indoor': section}
    return lambda *overrides: check(write_config(values), *overrides)


def folder(tmp_path, part='train', kind='label'):
    return tmp_path / 'indoor' / part / kind


def test_images_without_labels_are_counted_as_unlabelled(own, tmp_path):
    for name in ('01.png', '05.png'):
        (folder(tmp_path) / name).unlink()
    (folder(tmp_path, 'validation') / '02.png').rename(folder(tmp_path, 'validation') / 'x.png')
    result = own()
    assert [(part.images, part.of) for part in result.parts.values()] == [(6, 6), (2, 2), (3, 3)]
    assert result.warnings == [
        'domains.indoor.train: 2 of 8 images have no label map (01.png, 05.png) and count as '
        'unlabelled',
        'domains.indoor.validation: 1 of 4 images have no label map (02.png) and are left out',
        'domains.indoor.validation: 1 label maps have no image of the same name (x.png) and are '
        'left out']
    assert not result.problems


def test_pictures_of_kinds_that_are_not_read_are_told(own, tmp_path):
    more = tmp_path / 'more'
    shutil.copytree(folder(tmp_path, kind='image'), more)
    for path in (folder(tmp_path, kind='image') / 'IMG.HEIC', more / 'a.gif', more / 'b.jfif',
                 more / '.c.gif', more / 'notes.txt'):
        path.write_bytes(b'')
    first, second = own(f'domains.indoor.unlabelled=[{more}]').warnings
    assert first.startswith(f'domains.indoor.train: 1 pictures of {tmp_path}/indoor/train/image '
                            'are of a kind that is not read (IMG.HEIC; read are .png, ')
    assert second.startswith(f'domains.indoor.unlabelled: 2 pictures of {more} are of a kind that '
                             'is not read (a.gif, b.jfif; ')


def test_the_same_folder_to_train_and_to_measure_is_told(own, tmp_path):
    images = folder(tmp_path, kind='image')
    (warning,) = own(f'domains.indoor.validation.images={images}',
                     f'domains.indoor.validation.labels={folder(tmp_path)}').warnings
    assert warning.startswith('domains.indoor: 8 of 8 validation images are training images, too '
                              f'(the same content: {images}/00.png and {images}/00.png, ')


def test_copies_and_near_duplicates_across_the_parts_are_told(own, tmp_path):
    train, held_out = (folder(tmp_path, part, 'image') for part in ('train', 'validation'))
    shutil.copy(train / '03.png', held_out / '00.png')
    picture = Image.open(train / '05.png')
    picture.save(held_out / '01.jpg', quality=80)
    (held_out / '01.png').unlink()
    same, near = own().warnings[-2:]
    assert f'1 of 4 validation images are training images, too (the same content: ' \
           f'{held_out}/00.png and {train}/03.png)' in same
    assert f'1 of 4 validation images are training images, too (near duplicates: ' \
           f'{held_out}/01.jpg and {train}/05.png)' in near


def test_pictures_of_one_colour_are_near_duplicates_by_that():
    def look(name, *colour):
        return look_of(Sample(Path(name)), name.encode(), np.full((9, 12, 3), colour, np.uint8))

    training = [look('red.png', 200, 0, 0), look('blue.png', 0, 0, 200)]
    (told,) = overlaps('a', training, [look('green.png', 0, 200, 0), look('a.jpg', 1, 0, 199)])
    assert '1 of 2 validation images' in told
    assert 'near duplicates: a.jpg and blue.png' in told


def test_pictures_of_noise_alone_are_no_duplicates():
    """Though the mean of each, and of many of their pixels, is about the same."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 480, 640, 3), np.uint8)
    one, other = (look_of(Sample(Path(f'{i}.png')), bytes([i]), image)
                  for i, image in enumerate(noise))
    again = look_of(Sample(Path('again.jpg')), b'', cv2.GaussianBlur(noise[0], (3, 3), 0))
    assert not list(overlaps('a', [one], [other]))
    (told,) = overlaps('a', [one, other], [again])
    assert 'near duplicates: again.jpg and 0.png' in told


@pytest.mark.parametrize('change', [
    lambda picture: picture.resize((96, 72)),
    lambda picture: picture.point(lambda value: 0.8 * value + 20),
    lambda picture: picture.point(lambda value: 255 * (value / 255) ** 1.1),
    lambda picture: picture.convert('L').convert('RGB'),
    *[partial(Image.Image.transpose, method=method) for method in Image.Transpose]])
def test_pictures_in_another_light_or_turned_are_near_duplicates(change):
    colours = np.random.default_rng(0).integers(0, 256, (5, 2, 6, 8, 3), np.uint8)
    training, held_out = (
        [look_of(Sample(Path(f'{part}{i}.png')), bytes([i, part]), np.array(
            change(Image.fromarray(image).resize((64, 48)))))
         for i, image in enumerate(colours[:, min(part, 1)])]
        for part, change in ((0, lambda picture: picture), (1, change)))
    assert not list(overlaps('a', training, held_out))
    image = Image.fromarray(colours[3, 0]).resize((64, 48))
    again = look_of(Sample(Path('again.png')), b'', np.array(change(image)))
    (told,) = overlaps('a', training, [*held_out, again])
    assert '1 of 6 validation images' in told
    assert '(near duplicates: again.png and 03.png)' in told


def test_unlabelled_images_are_trained_on_as_well(own, tmp_path):
    held_out = folder(tmp_path, 'validation', 'image')
    (warning,) = own(f'domains.indoor.unlabelled=[{held_out}]').warnings
    assert '4 of 4 validation images are training images, too (the same content' in warning


def test_pictures_of_the_dark_are_no_duplicates():
    """Ten greys of contrast, of which three differ."""
    generator = np.random.default_rng(0)
    dark = generator.integers(0, 10, (2, 16, 16, 1), np.uint8).repeat(3, axis=3)
    looks = [look_of(Sample(Path(f'{i}.png')), bytes([i]), image) for i, image in enumerate(dark)]
    assert not list(overlaps('a', looks[:1], looks[1:]))
    again = look_of(Sample(Path('2.png')), b'2', dark[0])
    (told,) = overlaps('a', looks, [again])
    assert 'near duplicates: 2.png and 0.png' in told


def test_orientation_depth_and_what_labels_are_like_are_told(own, tmp_path):
    images, labels = folder(tmp_path, kind='image'), folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(images / '00.png').save(images / '00.png', exif=exif)
    cv2.imwrite(str(images / '01.png'),
                cv2.imread(str(images / '01.png')).astype(np.uint16) * 257)
    shape = (tiny_worlds.HEIGHT, tiny_worlds.WIDTH)
    write_png(labels / '02.png', np.ones(shape, np.uint8))
    write_png(labels / '03.png', np.full(shape, 255, np.uint8))
    write_png(labels / '04.png', np.where(np.arange(64) < 9, 255, 0).astype(np.uint8)[None]
              .repeat(48, axis=0))
    label = read_label(labels / '05.png', tiny_worlds.INDOOR)
    write_palette_png(labels / '05.png', label, [(7, 7, 7)] * 256)
    other = [tiny_worlds.INDOOR.palette[1], *[(1, 1, 1)] * 255]
    write_palette_png(labels / '06.png', label, other)
    result = own()
    assert not result.problems
    expected = {
        '1 of 8 images are turned upright by the orientation': '(00.png)',
        '1 of 8 images have 16 bits': '(01.png)',
        '1 of 8 label maps have one class at every pixel': '(02.png)',
        '1 of 8 label maps are void': '(03.png)',
        '1 of 8 label maps have the values 0 and 255 alone, that is wall': '(04.png)',
        '2 of 8 label maps have a palette;': '(05.png, 06.png)',
        '1 of 8 label maps have a palette in which an index': '(06.png)'}
    assert len(result.warnings) == len(expected)
    for warning, (begin, end) in zip(result.warnings, expected.items(), strict=True):
        assert warning.startswith(f'domains.indoor, labelled: {begin}')
        assert warning.endswith(end)


@pytest.mark.parametrize('part', ['train', 'validation'])
def test_masks_of_0_and_255_are_a_problem(own, tmp_path, part):
    for label in folder(tmp_path, part).iterdir():
        write_png(label, np.where(read_label(label, tiny_worlds.INDOOR) == 1, 255, 0)
                  .astype(np.uint8))
    (problem,) = own().problems
    count = 8 if part == 'train' else 4
    assert problem.startswith(f'domains.indoor.{part}: {folder(tmp_path, part)}: each of the '
                              f'{count} label maps has the values 0 and 255 alone. Was 255 paint')
    result = own(f'domains.indoor.{part}.painted=lamp', f'domains.indoor.{part}.background=wall')
    assert not result.problems
    assert not any('0 and 255' in warning for warning in result.warnings)


def test_a_question_about_palettes_is_told_once_a_folder(own, tmp_path):
    """What else there is to tell of their images is told all the same."""
    black = [(0, 0, 0), *[(i, 0, 255 - i) for i in range(1, 256)]]
    for name in ('01.png', '03.png', '06.png'):
        path = folder(tmp_path) / name
        write_palette_png(path, read_label(path, tiny_worlds.INDOOR), black)
    shutil.copy(folder(tmp_path, kind='image') / '03.png',
                folder(tmp_path, 'validation', 'image') / '00.png')
    result = own()
    (problem,) = result.problems
    assert problem.startswith(f'{folder(tmp_path)}/01.png: its palette gives index 0 the colour')
    assert problem.endswith('; the same of 2 more in this folder')
    assert result.parts['labelled'].sizes == {'64×48': 8}
    assert 'the same content' in result.warnings[-1]
    answered = own('domains.indoor.train.background=wall')
    assert not answered.problems
    assert np.array_equal(answered.parts['labelled'].pixels, own_pixels(tmp_path))


def own_pixels(tmp_path):
    """Return the pixels of each class and of void by another reader."""
    labels = np.stack([np.array(Image.open(path)) for path in folder(tmp_path).iterdir()])
    return [(labels == value).sum() for value in (0, 1, 255)]


def test_each_file_is_read_once(own, monkeypatch):
    read = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, 'read_bytes', lambda path: read.append(path) or real(path))
    own()
    images = [path for path in read if path.parent.name == 'image']
    assert len(images) == len(set(images)) == tiny_worlds.TRAIN + tiny_worlds.VALIDATION


def test_a_class_that_no_validation_image_shows_is_told(own, tmp_path):
    for label in folder(tmp_path, 'validation').iterdir():
        values = read_label(label, tiny_worlds.INDOOR)
        write_png(label, np.where(values == 0, 255, values).astype(np.uint8))
    assert 'domains.indoor: no validation image shows wall' in own().warnings
