"""What a configuration's folders become: labelled, unlabelled and validation samples."""

from dataclasses import replace
import itertools
import logging
import pickle
import shutil

import numpy as np
import pytest
from tiny_worlds import INDOOR, LABELLED, OUTDOOR, random_image, TRAIN, VALIDATION
from univseg_core.batches import parts
from univseg_core.batches.check import check_data
from univseg_core.batches.dataset import check_files, DomainData, load_data, load_validation
from univseg_core.batches.splits import read_splits, write_splits
from univseg_core.datasets.folders import DataError, labelled_samples, Sample
from univseg_core.domains import Domain
from univseg_core.pictures.images import ImageError, read_codes, read_label, write_png
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError


@pytest.fixture
def load(values, write_config):
    """Return a function that loads the tiny configuration under overrides."""
    return lambda *overrides: load_config(write_config(values), overrides)


def names(samples):
    return [sample.image.name for sample in samples]


def test_every_domain_has_its_samples(load, worlds):
    data = load_data(load())
    assert list(data) == ['outdoor', 'indoor']
    assert [d.domain for d in data.values()] == [OUTDOOR, INDOOR]
    for name, d in data.items():
        assert len(d.labelled) == LABELLED
        assert names(d.unlabelled) == [f'{i:02}.png' for i in range(TRAIN)]
        assert names(d.validation) == [f'{i:02}.png' for i in range(VALIDATION)]
        folder = worlds / name / 'train'
        assert all(s.label == folder / 'label' / s.image.name for s in d.labelled)
        assert all(s.image.parent == folder / 'image' for s in d.labelled + d.unlabelled)
        assert not any(s.label for s in d.unlabelled)
        assert all(s.label.parent == worlds / name / 'validation' / 'label' for s in d.validation)


def test_all_labels_are_used_without_a_count(load):
    data = load_data(load('domains.outdoor.labelled=null'))
    assert len(data['outdoor'].labelled) == TRAIN
    assert len(data['indoor'].labelled) == LABELLED


def test_labelled_images_can_be_kept_out_of_the_unlabelled(load):
    d = load_data(load('domains.outdoor.labelled_also_unlabelled=false'))['outdoor']
    assert len(d.unlabelled) == TRAIN - LABELLED
    assert sorted(names(d.labelled) + names(d.unlabelled)) == [f'{i:02}.png' for i in range(TRAIN)]


def test_training_images_can_be_set_aside_to_measure_with(load):
    """The same ones for every seed; none is learned from, and the other folder is left alone."""
    asides = []
    for seed in (0, 1):
        config = load('domains.outdoor.validation_from_train=2', f'training.seed={seed}',
                      'domains.outdoor.labelled_also_unlabelled=false')
        data = load_data(config)
        d = data['outdoor']
        assert len(d.validation) == 2
        assert all(sample.image.parent.parent.name == 'train' for sample in d.validation)
        everything = names(d.labelled) + names(d.unlabelled) + names(d.validation)
        assert sorted(everything) == [f'{i:02}.png' for i in range(TRAIN)]
        assert names(load_validation(config, {name: d.domain for name, d in data.items()})[
            'outdoor']) == names(d.validation)
        assert len(data['indoor'].validation) == VALIDATION
        asides.append(names(d.validation))
    assert asides[0] == asides[1]


def test_images_set_aside_are_not_among_further_unlabelled_ones(load, worlds):
    folder = worlds / 'outdoor' / 'train' / 'image'
    d = load_data(load('domains.outdoor.validation_from_train=2',
                       f'domains.outdoor.unlabelled=["{folder}"]'))['outdoor']
    assert len(d.validation) == 2
    assert not {s.image for s in d.validation} & {s.image for s in d.unlabelled}
    assert len(d.unlabelled) == TRAIN - 2


@pytest.mark.parametrize('aside', ['null', 2])
def test_further_unlabelled_images_that_are_training_images_are_left_out(load, worlds, tmp_path,
                                                                         caplog, aside):
    """As frames are of which labels were imported, by copies; others of their names are not."""
    caplog.set_level(logging.INFO)
    own = worlds / 'outdoor' / 'train' / 'image'
    shutil.copy(own / '00.png', tmp_path / 'frame_a.png')
    (tmp_path / 'frame_b.png').hardlink_to(own / '01.png')
    shutil.copy(own / '03.png', tmp_path / '02.png')
    data = bytearray((own / '04.png').read_bytes())
    data[-1] ^= 1
    (tmp_path / '04.png').write_bytes(data)  # as large, of other content
    shutil.copy(worlds / 'outdoor' / 'validation' / 'image' / '01.png', tmp_path)
    d = load_data(load(f'domains.outdoor.unlabelled=["{tmp_path}", "{own}"]',
                       f'domains.outdoor.validation_from_train={aside}'))['outdoor']
    further = [s.image.name for s in d.unlabelled if s.image.parent == tmp_path]
    assert further == ['01.png', '04.png']
    of_training = TRAIN - (0 if aside == 'null' else aside)
    assert [s.image.parent for s in d.unlabelled].count(own) == of_training
    assert (f'domains.outdoor.unlabelled: {3 + TRAIN} of {5 + TRAIN} images are left out'
            in caplog.text)


def test_with_images_set_aside_no_others_are_needed(values, write_config):
    del values['domains']['outdoor']['validation']
    values['domains']['outdoor']['validation_from_train'] = 2
    assert len(load_data(load_config(write_config(values)))['outdoor'].validation) == 2
    del values['domains']['outdoor']['validation_from_train']
    with pytest.raises(ConfigError, match=r'domains\.outdoor\.validation: this key is missing'):
        load_config(write_config(values))


def test_no_more_can_be_set_aside_than_there_are(load):
    with pytest.raises(DataError, match=rf'domains\.outdoor\.validation_from_train: {TRAIN} '
                                        rf'images asked for, but the training folder has {TRAIN}'):
        load_data(load(f'domains.outdoor.validation_from_train={TRAIN}'))


@pytest.fixture
def begun(values, write_config, worlds, tmp_path):
    """Return a configuration whose files a test may remove, and its data and splits, begun."""
    folder = shutil.copytree(worlds, tmp_path / 'worlds')
    train, validation = values['domains']['outdoor'], {'validation_from_train': 2}
    for part in ('train', 'validation'):
        train[part] = {kind: path.replace(str(worlds), str(folder))
                       for kind, path in train[part].items()}
    values['domains']['outdoor'] |= validation | {
        'labelled': 3, 'unlabelled': [str(folder / 'outdoor' / 'validation' / 'image')]}
    config = load_config(write_config(values))
    data = load_data(config)
    write_splits(tmp_path / 'splits.json', {name: d.parts for name, d in data.items()})
    return config, data, read_splits(tmp_path / 'splits.json')


@pytest.mark.parametrize('place', [0, 3, -1])
def test_an_unlabelled_image_that_has_gone_keeps_its_place_in_a_run(begun, place):
    """What was chosen among the images that there were stays so: labels, and those set aside."""
    config, before, splits = begun
    d = before['outdoor']
    assert len(d.unlabelled) == TRAIN - 2 + VALIDATION
    only = [sample for sample in d.unlabelled if names([sample])[0] not in names(d.labelled)
            or sample.image.parts[-3] == 'validation']
    only[place].image.unlink()
    data = load_data(config, splits)
    assert data['outdoor'].labelled == d.labelled
    assert data['outdoor'].validation == d.validation
    assert [s.name for s in data['outdoor'].unlabelled] == [s.name for s in d.unlabelled]
    there = [sample.image.exists() for sample in data['outdoor'].unlabelled]
    assert there.count(False) == 1
    assert data['indoor'] == before['indoor']


@pytest.mark.parametrize('gone', [[0], [2], [3], [0, 1], [1, 3], [0, 1, 2], [3, 4, 5]])
def test_of_two_folders_with_images_of_one_name_those_that_are_there_keep_their_places(
        values, write_config, worlds, tmp_path, gone):
    """What they hold tells of which folder an image is."""
    for seed, file in enumerate(('a/0.png', 'a/1.png', 'a/also.png', 'b/0.png', 'b/1.png',
                                 'b/2.png')):
        write_png(tmp_path / file, random_image(8, 8, seed))
    values['domains']['outdoor'] |= {'labelled_also_unlabelled': False, 'labelled': TRAIN,
                                     'unlabelled': [str(tmp_path / 'a'), str(tmp_path / 'b')]}
    config, path = load_config(write_config(values)), tmp_path / 'splits.json'
    before = load_data(config)
    write_splits(path, {name: d.parts for name, d in before.items()})
    images = before['outdoor'].unlabelled
    assert names(images) == ['0.png', '1.png', 'also.png', '0.png', '1.png', '2.png']
    for place in gone:
        images[place].image.unlink()
    after = load_data(config, read_splits(path))
    for place, (sample, old) in enumerate(zip(after['outdoor'].unlabelled, images, strict=True)):
        assert sample.name == old.name
        assert sample.image.exists() == (place not in gone)
        assert sample.image == old.image or place in gone
    write_splits(path, {name: d.parts for name, d in after.items()})  # is not refused


def test_images_that_a_run_has_set_aside_are_measured_with_after_others_have_come(begun):
    config, before, splits = begun
    folder = config.domains['outdoor'].train.images.parent
    for number, kind in itertools.product(range(20), ('image', 'label')):
        shutil.copy(folder / kind / '00.png', folder / kind / f'a{number}.png')
    chosen = {'outdoor': before['outdoor'].validation}
    assert load_validation(config, {'outdoor': OUTDOOR}) != chosen
    assert load_validation(config, {'outdoor': OUTDOOR}, splits) == chosen
    chosen['outdoor'].pop(0).image.unlink()
    assert load_validation(config, {'outdoor': OUTDOOR}, splits) == chosen


def test_new_images_and_labelled_ones_that_have_gone_are_left_to_be_refused(begun, tmp_path):
    config, before, splits = begun
    write_png(before['outdoor'].unlabelled[-1].image.with_name('new.png'), random_image(48, 64))
    with pytest.raises(DataError, match=r'outdoor, unlabelled: 1 new \(new\.png\)'):
        write_splits(tmp_path / 'splits.json', {
            name: d.parts for name, d in load_data(config, splits).items()})
    before['outdoor'].labelled[1].image.unlink()
    with pytest.raises(DataError, match=r'outdoor, labelled: 1 gone \(\d\d\.png\)'):
        write_splits(tmp_path / 'splits.json', {
            name: d.parts for name, d in load_data(config, splits).items()})


def test_a_run_that_began_with_copies_goes_on_without_them(begun, tmp_path, monkeypatch, caplog):
    config, _, _ = begun
    folder = config.domains['outdoor'].unlabelled[0]
    shutil.copy(folder.parents[1] / 'train' / 'image' / '00.png', folder / '05.png')
    with monkeypatch.context() as before:
        before.setattr(parts, 'not_among', lambda samples, others: samples)
        old = load_data(config)
    write_splits(tmp_path / 'old.json', {name: d.parts for name, d in old.items()})
    d = load_data(config, read_splits(tmp_path / 'old.json'))['outdoor']
    assert names(d.unlabelled) == names(old['outdoor'].unlabelled)
    gone, = (sample for sample in d.unlabelled if not sample.image.exists())
    assert gone.image.name == '05.png'
    assert 'outdoor: 1 unlabelled images of this run have gone, and are left out' in caplog.text


def test_of_other_folders_than_those_of_a_run_images_are_chosen_as_ever(load):
    """So that what is wrong is told by the settings that differ."""
    config, gone = load('domains.outdoor.validation_from_train=2'), {'images': ['none.png']}
    splits = {'outdoor': dict.fromkeys(('labelled', 'unlabelled', 'validation'), gone)}
    assert load_data(config, splits) == load_data(config)


def test_further_folders_are_unlabelled(load, worlds):
    more = worlds / 'indoor' / 'validation' / 'image'
    d = load_data(load(f'domains.outdoor.unlabelled=["{more}"]'))['outdoor']
    assert d.unlabelled[TRAIN:] == [Sample(more / f'{i:02}.png') for i in range(VALIDATION)]


def test_several_training_folders_are_one_list(values, write_config, worlds, tmp_path, caplog):
    """Old labels beside new ones, of other names; each image keeps its own label map."""
    new = tmp_path / 'new'
    for part in ('image', 'label'):
        for path in (worlds / 'outdoor' / 'train' / part).iterdir():
            (new / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, new / part / f'0{path.name}')
    values['domains']['outdoor'] |= {'labelled': None, 'train_also': [
        {'images': str(new / 'image'), 'labels': str(new / 'label')}]}
    d = load_data(load_config(write_config(values)))['outdoor']
    assert names(d.labelled) == sorted([f'{i:02}.png' for i in range(TRAIN)]
                                       + [f'0{i:02}.png' for i in range(TRAIN)])
    assert {s.image.parent for s in d.labelled} == {
        worlds / 'outdoor' / 'train' / 'image', new / 'image'}
    assert all(s.label == s.image.parents[1] / 'label' / s.image.name for s in d.labelled)

    assert 'train_also' not in caplog.text
    values['domains']['outdoor']['labelled'] = 2 * TRAIN - 1
    missing = 0
    for seed in range(3):
        config = load_config(write_config(values), [f'training.seed={seed}'])
        d = load_data(config)['outdoor']
        (left_out,) = {*names(d.unlabelled)} - {*names(d.labelled)}
        warning = (f'domains.outdoor.labelled: of the {TRAIN} labelled images of train_also, 1 '
                   f'is not among the {2 * TRAIN - 1} chosen of {2 * TRAIN} ({left_out}); null')
        is_new = len(left_out) == len('000.png')
        assert (warning in caplog.text) == is_new
        assert any(warning in each for each in next(
            check_data(config, progress=False)).warnings) == is_new
        missing += is_new
        caplog.clear()
        begun = {'outdoor': {'labelled': {'images': names(d.labelled)}}}
        load_data(config, begun)
        assert 'train_also' not in caplog.text  # was told when it began
        caplog.clear()
    assert 0 < missing < 3
    values['domains']['outdoor']['labelled'] = None

    (new / 'image' / '000.png').rename(new / 'image' / '00.png')
    (new / 'label' / '000.png').rename(new / 'label' / '00.png')
    with pytest.raises(DataError, match=r'domains.outdoor.train_also: .*/00.png and .*/00.png '
                                        'have the same name'):
        load_data(load_config(write_config(values)))


def test_further_training_folders_are_not_for_a_data_set(load, tmp_path):
    with pytest.raises(ConfigError, match='train_also: only beside train'):
        load('domains.outdoor.dataset=camvid', f'domains.outdoor.root={tmp_path}',
             f'domains.outdoor.train_also=[{{images: {tmp_path}, labels: {tmp_path}}}]')


def test_the_seed_decides_what_is_labelled(load):
    same, again, other = (load_data(load(f'training.seed={seed}'))['outdoor'].labelled
                          for seed in (0, 0, 1))
    assert same == again
    assert same != other


def test_too_many_labels_are_refused_by_their_key(load):
    with pytest.raises(DataError, match=rf'domains\.indoor\.labelled: 99 .* has {TRAIN}'):
        load_data(load('domains.indoor.labelled=99'))


def test_images_without_a_label_count_as_unlabelled(load, own_data, tmp_path, caplog):
    folder = tmp_path / 'indoor' / 'train'
    for name in ('01.png', '04.png', '06.png'):
        (folder / 'label' / name).unlink()
    overrides = [f'domains.indoor.train.{kind}={folder / kind[:-1]}'
                 for kind in ('images', 'labels')]
    data = load_data(load(*overrides, 'domains.indoor.labelled=5'))['indoor']
    assert names(data.labelled) == ['00.png', '02.png', '03.png', '05.png', '07.png']
    assert len(data.unlabelled) == TRAIN
    assert '3 of 8 images have no label map (01.png, 04.png, 06.png) and count as' in caplog.text
    with pytest.raises(DataError, match=r'labelled: 6 labelled .* has 5 with a label map'):
        load_data(load(*overrides, 'domains.indoor.labelled=6'))
    aside = load_data(load(*overrides, 'domains.indoor.labelled=1',
                           'domains.indoor.validation_from_train=4'))['indoor']
    assert len(aside.validation) == 4
    assert all(sample.label for sample in aside.validation)
    assert len(aside.unlabelled) == TRAIN - 4


def test_a_training_by_the_images_that_it_is_measured_with_is_told(load, worlds, tmp_path, caplog):
    load_data(load())
    assert not caplog.text
    folder = worlds / 'indoor' / 'train'
    (tmp_path / 'link').symlink_to(folder / 'image')
    load_data(load(f'domains.indoor.validation.images={tmp_path / "link"}',
                   f'domains.indoor.validation.labels={folder / "label"}'))
    assert (f'domains.indoor: {TRAIN} of {TRAIN} validation images are training images, too (the '
            'same files') in caplog.text


def test_copies_that_a_training_is_measured_with_are_told(own_data, tmp_path, caplog):
    data, (held_out, linked, *_) = own_data['indoor'], own_data['indoor'].validation
    check_files(own_data)
    assert not caplog.text
    sizes = {sample.image.stat().st_size for sample in data.labelled}
    shutil.copy(data.labelled[3].image, held_out.image)
    shutil.copy(data.labelled[3].label, held_out.label)
    linked.image.unlink()
    linked.image.symlink_to(data.labelled[1].image)  # told when the files are listed
    check_files(own_data)
    assert (f'domains.indoor: 1 of 4 validation images are training images, too (the same '
            f'content: {held_out.image} and {data.labelled[3].image})') in caplog.text
    caplog.clear()
    other = bytearray(held_out.image.read_bytes())
    other[-1] ^= 1  # of the same size, and behind the picture's end
    held_out.image.write_bytes(other)
    assert held_out.image.stat().st_size in sizes
    check_files(own_data)
    assert not caplog.text
    copy = tmp_path / 'elsewhere.png'
    shutil.copy(held_out.image, copy)
    check_files({'indoor': replace(data, unlabelled=[Sample(copy), Sample(tmp_path / 'gone')])})
    assert f'{held_out.image} and {copy})' in caplog.text


@pytest.fixture
def masks(worlds, tmp_path):
    """Return a folder's settings as masks of class 1, the lamp, of the tiny indoor world."""
    for part in ('train', 'validation'):
        for path in (worlds / 'indoor' / part / 'label').iterdir():
            write_png(tmp_path / part / path.name,
                      np.where(read_label(path, INDOOR) == 1, 255, 0).astype(np.uint8))
    return lambda part: f'domains.indoor.{part}.labels={tmp_path / part}'


@pytest.mark.parametrize('part', ['train', 'validation'])
def test_masks_of_0_and_255_are_asked_about(load, masks, part):
    """Also where one image alone is learned from."""
    config = load(masks(part), 'domains.indoor.labelled=1')
    asked = rf'domains\.indoor\.{part}: .*Was 255 painted\? Say painted: CLASS, such as lamp'
    with pytest.raises(DataError, match=asked):
        load_data(config)
    if part == 'validation':
        with pytest.raises(DataError, match=asked):
            load_validation(config, {'indoor': INDOOR})


@pytest.mark.parametrize(('answers', 'of_0', 'of_255'), [
    ({'painted': 'lamp'}, 255, 1), ({'painted': 'wall'}, 255, 0), ({'painted': 'void'}, 0, 255),
    ({'painted': 'lamp', 'background': 'wall'}, 0, 1)])
def test_what_was_painted_can_be_said(load, masks, answers, of_0, of_255):
    data = load_data(load(masks('train'), *(f'domains.indoor.train.{key}={value}'
                                            for key, value in answers.items())))['indoor']
    check_files({'indoor': data})
    sample = pickle.loads(pickle.dumps(data.labelled[0]))
    mask = read_codes(sample.label)
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(sample.read_label(sample.label, INDOOR), np.where(mask, of_255, of_0))


def test_masks_are_asked_about_folder_by_folder(values, write_config, worlds, masks, tmp_path):
    """Among the label maps of a folder, one with a third value shows that all are indices."""
    images = tmp_path / 'more'
    shutil.copytree(worlds / 'indoor' / 'train' / 'image', images)
    for path in [*images.iterdir(), *(tmp_path / 'train').iterdir()]:
        path.rename(path.with_name(f'm{path.name}'))
    values['domains']['indoor']['train_also'] = [
        {'images': str(images), 'labels': str(tmp_path / 'train')}]
    with pytest.raises(DataError, match=r'domains\.indoor\.train_also: .*Was 255 painted'):
        load_data(load_config(write_config(values)))
    write_png(tmp_path / 'train' / 'm07.png', np.full((48, 64), 1, np.uint8))
    load_data(load_config(write_config(values)))


def test_masks_among_other_label_maps_are_told(own_data, caplog):
    path = own_data['indoor'].labelled[2].label
    write_png(path, np.where(read_label(path, INDOOR) == 1, 255, 0).astype(np.uint8))
    check_files(own_data)
    assert ('domains.indoor: 1 of 12 label maps have the values 0 and 255 alone, that is wall and '
            'void; where 255 was painted') in caplog.text


@pytest.mark.parametrize(('key', 'value'), [
    ('train.painted', 'roof'), ('validation.background', 'roof'),
    ('train_also', '[{images: ., labels: ., painted: roof}]')])
def test_answers_are_classes(load, key, value):
    with pytest.raises(ConfigError, match=r'(background|painted): expected void or one of the '
                       r"classes \(wall, lamp\), got 'roof'"):
        load(f'domains.indoor.{key}={value}')


def test_a_missing_label_is_named(load, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match=f'empty: no label map for {TRAIN} of {TRAIN} images'):
        load_data(load(f'domains.outdoor.train.labels={tmp_path / "empty"}'))


def test_validation_is_that_of_the_domains_in_common(load):
    config = load()
    samples = load_validation(config, {'indoor': INDOOR, 'elsewhere': OUTDOOR})
    assert list(samples) == ['indoor']
    assert samples['indoor'] == load_data(config)['indoor'].validation


def test_validation_keeps_the_configurations_order(values, write_config):
    """A report's tables do not change places from one run of the command to the next."""
    section = values['domains']['outdoor']
    order = ['kitchen', 'street', 'attic', 'forest', 'cellar', 'yard', 'roof']
    config = load_config(write_config({'domains': dict.fromkeys(order, section)}))
    domains = {name: Domain.create(name, OUTDOOR.classes) for name in sorted(order)}
    assert list(load_validation(config, domains)) == list(config.domains)


def test_validation_with_other_classes_is_refused(load):
    other = Domain.create('indoor', ['wall', 'lamp', 'door'])
    with pytest.raises(DataError, match=r'domains\.indoor\.classes: .*wall, lamp, door'):
        load_validation(load(), {'indoor': other})


def test_validation_without_a_domain_in_common_is_refused(load):
    with pytest.raises(DataError, match='outdoor, indoor, the model elsewhere: none in common'):
        load_validation(load(), {'elsewhere': OUTDOOR})


@pytest.fixture
def own_data(tmp_path, worlds):
    """Return one domain's data whose files a test may spoil."""
    shutil.copytree(worlds / 'indoor', tmp_path / 'indoor')
    train, validation = (
        labelled_samples(tmp_path / f'indoor/{part}/image', tmp_path / f'indoor/{part}/label')
        for part in ('train', 'validation'))
    return {'indoor': DomainData(INDOOR, train, [], validation)}


def test_files_are_checked_before_a_training_begins(own_data):
    check_files(own_data)
    damaged = own_data['indoor'].validation[0].image
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(ImageError, match=f'{damaged}: not a readable image'):
        check_files(own_data)


def test_a_domain_without_a_labelled_pixel_is_told(own_data):
    for sample in own_data['indoor'].labelled:
        write_png(sample.label, np.full_like(read_label(sample.label, INDOOR), 255))
    with pytest.raises(DataError, match=r'domains\.indoor: every pixel'):
        check_files(own_data)
