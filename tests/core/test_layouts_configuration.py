"""Data sets in a configuration: which keys go together, and what a run gets of them."""

import json
import logging
import pickle

import layout_trees
import numpy as np
import pytest
from univseg_core.batches.dataset import check_files, load_data, load_validation
from univseg_core.batches.splits import write_splits
from univseg_core.batches.stores import prepare_stores
from univseg_core.datasets.folders import DataError, read_sample
from univseg_core.domains import Domain
from univseg_core.settings.config import dump_config, load_config
from univseg_core.settings.explanation import annotated_yaml
from univseg_core.settings.file import ConfigError


@pytest.fixture
def street(tmp_path):
    root = layout_trees.cityscapes(tmp_path / 'cityscapes')
    return {'dataset': 'cityscapes', 'root': str(root)}


@pytest.fixture
def load(write_config):
    """Return a function that loads a configuration of the one domain `street`."""
    return lambda street, *overrides: load_config(
        write_config({'domains': {'street': street}}), overrides)


def test_a_data_set_has_its_own_classes_and_palette(load, street):
    domain = load(street).domain('street')
    assert domain.name == 'street'
    assert domain.classes[:2] == ('road', 'sidewalk')
    assert domain.palette[13] == (0, 0, 142)
    assert load(street, f'domains.street.palette={[[7, 8, 9]] * 19}').domain('street').palette == (
        ((7, 8, 9),) * 19)


def test_it_survives_being_dumped_and_explained(load, street, tmp_path):
    config = load(street | {'labelled': 2, 'extra': True})
    for text in (dump_config(config), annotated_yaml(config)):
        again = tmp_path / 'again.yaml'
        again.write_text(text, encoding='utf-8')
        assert load_config(again) == config


@pytest.mark.parametrize(('change', 'message'), [
    ({'dataset': 'citiscapes'}, r"street\.dataset: .*'cityscapes'.*got 'citiscapes'"),
    ({'root': None}, r'street\.root: this key is missing'),
    ({'root': '/nowhere'}, r'street\.root: no such folder: /nowhere'),
    ({'root': '${NOT_SET_AT_ALL}'}, r'street\.root: the environment variable NOT_SET_AT_ALL'),
    ({'classes': ['a']}, r'street\.classes: cityscapes has its own'),
    ({'train': {'images': '/', 'labels': '/'}}, r'street\.train: cityscapes has its own'),
    ({'palette': [[1, 2, 3]]}, r'domains\.street: .*19 classes but 1 palette'),
    ({'held_out': 'test'}, r'street\.held_out: cityscapes has val alone, got test'),
    ({'dataset': 'idd', 'extra': True}, r'street\.extra: idd has no further images'),
    ({'dataset': 'folder'}, r'street\.root: only with a dataset \(cityscapes, camvid, '),
    ({'dataset': 'folder'}, r'street\.classes: this key is missing'),
    ({'dataset': 'folder'}, r'street\.train: this key is missing'),
])
def test_keys_that_do_not_go_together_are_named(load, street, change, message):
    with pytest.raises(ConfigError, match=rf'tiny\.yaml:(.|\n)*domains\.{message}'.replace(
            r'domains\.domains', 'domains')):
        load(street | change)


@pytest.mark.parametrize(('key', 'value'), [('root', '/tmp'), ('held_out', 'val'),
                                            ('extra', 'true')])
def test_a_data_sets_keys_are_refused_of_plain_folders(values, write_config, key, value):
    with pytest.raises(ConfigError, match=rf'domains\.outdoor\.{key}: only with a dataset'):
        load_config(write_config(values), [f'domains.outdoor.{key}={value}'])


def test_two_domains_of_one_name_are_refused_with_their_line(tmp_path, street):
    path = tmp_path / 'twice.yaml'
    path.write_text('domains:\n' + 2 * f'  street: {json.dumps(street)}\n')
    with pytest.raises(ConfigError, match=r"twice\.yaml: (.|\n)*'street' is there twice(.|\n)*"
                                          'line 3'):
        load_config(path)


def test_keys_may_be_merged_as_yaml_has_it(tmp_path, street):
    """Two places that share what `<<` names, one of them with a value of its own."""
    path = tmp_path / 'merged.yaml'
    path.write_text(f'domains:\n  street: &street {json.dumps(street | {"labelled": 1})}\n'
                    '  road:\n    <<: *street\n    labelled: 2\n')
    config = load_config(path)
    assert [section.labelled for section in config.domains.values()] == [1, 2]


def test_a_run_gets_a_data_sets_images(load, street):
    d = load_data(load(street | {'labelled': 2, 'extra': True}))['street']
    assert [len(part) for part in (d.labelled, d.unlabelled, d.validation)] == [2, 4, 1]
    assert [sample.image.name[:6] for sample in d.unlabelled] == [
        'aachen', 'aachen', 'ulm_00', 'bamber']
    assert not any(sample.label for sample in d.unlabelled)
    check_files({'street': d})
    config = load(street | {'labelled': 2, 'labelled_also_unlabelled': False})
    assert len(load_data(config)['street'].unlabelled) == 1


def test_fewer_images_than_published_are_a_warning(load, street, caplog):
    config = load(street | {'extra': True})
    with caplog.at_level(logging.WARNING):
        load_data(config)
    root = street['root']
    assert [record.getMessage() for record in caplog.records] == [
        f'domains.street.root: {root} has {count} images of {part}; cityscapes was published '
        f'with {published}'
        for part, count, published in (('train', 3, 2975), ('val', 1, 500), ('extra', 1, 19998))]
    caplog.clear()
    load_validation(config, {'street': config.domain('street')})
    assert len(caplog.records) == 1


def test_an_incomplete_download_is_told_by_the_domains_key(load, street, tmp_path):
    (path,) = (tmp_path / 'cityscapes/gtFine/val').rglob('*labelIds.png')
    path.unlink()
    with pytest.raises(DataError, match=r'domains\.street\.root: .*1 of 1 label maps are missing'):
        load_data(load(street))


def test_more_labels_than_a_data_set_has_are_refused(load, street):
    with pytest.raises(DataError, match=r'domains\.street\.labelled: 4 labelled images .* has 3'):
        load_data(load(street | {'labelled': 4}))


def test_camvid_is_measured_on_the_part_that_is_asked_for(load, tmp_path):
    root = layout_trees.camvid_grouped(tmp_path / 'camvid')
    for held_out, name in ((None, '0016E5_07959'), ('val', '0016E5_07959'),
                           ('test', 'Seq05VD_f00000')):
        config = load({'dataset': 'camvid', 'root': str(root), 'held_out': held_out})
        (sample,) = load_validation(config, {'street': config.domain('street')})['street']
        assert sample.image.stem == name
        assert load_data(config)['street'].validation == [sample]


def test_a_model_of_other_classes_is_refused(load, street):
    with pytest.raises(DataError, match=r'domains\.street\.classes: .*other classes: a, b'):
        load_validation(load(street), {'street': Domain.create('street', ['a', 'b'])})


def test_images_of_one_name_are_told_apart_in_the_splits(load, tmp_path):
    root = layout_trees.idd(tmp_path / 'idd')
    d = load_data(load({'dataset': 'idd', 'root': str(root)}))['street']
    path = tmp_path / 'splits.json'
    write_splits(path, {'street': d.parts})
    split = json.loads(path.read_text())['street']
    assert split['labelled']['images'] == [
        f'leftImg8bit/train/{drive}/frame0014_leftImg8bit.png' for drive in (0, 12)]
    assert split['unlabelled']['images'] == split['labelled']['images']


def test_stores_hold_a_data_sets_labels_and_workers_read_them(load, tmp_path):
    root = layout_trees.idd(tmp_path / 'idd')
    data = load_data(load({'dataset': 'idd', 'root': str(root)}))
    store = prepare_stores(data, None, progress=False).labelled['street']
    expected = read_sample(data['street'].labelled[0], data['street'].domain)[1]
    assert (expected == 9).sum() == 20  # the car of the tree
    again = pickle.loads(pickle.dumps(store))
    assert not again.memory
    for held in (store, again):
        assert np.array_equal(held[0][1], expected)
