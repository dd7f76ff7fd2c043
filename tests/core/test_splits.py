"""Which images are labelled: decided by seed, domain and names alone, and written down."""

import hashlib
from itertools import pairwise
import json
import os
from pathlib import Path

import pytest
from univseg_core.batches.splits import (
    BLOCK,
    choose_aside,
    choose_labelled,
    fingerprint,
    read_splits,
    split_hash,
    WHOLE,
    write_splits,
)
from univseg_core.datasets.folders import DataError, Sample

SAMPLES = [Sample(Path(f'/data/image/{i:03}.png'), Path(f'/data/label/{i:03}.png'))
           for i in range(40)]


def chosen(count=10, domain='outdoor', seed=0):
    return choose_labelled(SAMPLES, count, domain, seed)


@pytest.mark.parametrize('count', [1, 10, 39, 40])
def test_so_many_are_chosen_in_file_order(count):
    samples = chosen(count)
    assert len(set(samples)) == count
    assert samples == sorted(samples)
    assert set(samples) <= set(SAMPLES)


def test_without_a_count_all_are_labelled():
    assert chosen(None) == SAMPLES


@pytest.mark.parametrize('seed', range(3))
def test_smaller_choices_are_part_of_larger_ones(seed):
    nested = [set(chosen(n, seed=seed)) for n in (1, 5, 10, 20, 40)]
    assert all(small < large for small, large in pairwise(nested))


def test_the_choice_is_that_of_the_seed_and_the_domain():
    assert chosen() == chosen()
    assert chosen(seed=1) != chosen(seed=0)
    assert chosen(domain='indoor') != chosen(domain='outdoor')


def test_the_choice_is_the_same_on_every_machine():
    """A change of it would make every earlier run's labels another set."""
    assert [s.image.name for s in chosen(4)] == ['018.png', '027.png', '032.png', '038.png']


def test_the_choice_does_not_depend_on_where_the_files_are():
    moved = [Sample(Path('/other') / s.image.name, s.label) for s in SAMPLES]
    names = [s.image.name for s in choose_labelled(moved, 10, 'outdoor', 0)]
    assert names == [s.image.name for s in chosen()]


def test_images_that_are_added_set_none_aside_that_was_learned_from():
    """From every other image to all: what was learned from never becomes what is measured."""
    few = SAMPLES[::2]
    before, after = set(choose_aside(few, 8, 'yard')), set(choose_aside(SAMPLES, 8, 'yard'))
    assert len(before) == len(after) == 8
    assert after != before and not after & (set(few) - before)


def test_what_is_set_aside_is_the_same_on_every_machine_and_of_the_domain():
    """By hand: the smallest of sha256('outdoor:NAME')."""
    digests = {hashlib.sha256(f'outdoor:{s.name}'.encode()).hexdigest(): s for s in SAMPLES}
    assert choose_aside(SAMPLES, 3, 'outdoor') == [digests[key] for key in sorted(digests)[:3]]
    assert choose_aside(SAMPLES, 3, 'outdoor') != choose_aside(SAMPLES, 3, 'indoor')


def test_too_many_are_refused_by_the_settings_key():
    with pytest.raises(DataError, match=r'domains\.outdoor\.labelled: 41 .* has 40'):
        chosen(41)


def test_the_hash_is_that_of_the_names():
    assert split_hash(SAMPLES[:2]) == hashlib.sha256(b'000.png\n001.png').hexdigest()
    assert split_hash(SAMPLES[:2]) != split_hash(SAMPLES[1:3])


def test_splits_are_written_down(tmp_path):
    write_splits(tmp_path / 'splits.json',
                 {'outdoor': {'labelled': SAMPLES[:2], 'unlabelled': SAMPLES[2:5]}})
    assert json.loads((tmp_path / 'splits.json').read_text()) == {'outdoor': {
        'labelled': {'hash': split_hash(SAMPLES[:2]), 'images': ['000.png', '001.png'],
                     'contents': [None, None]},  # there are no such files
        'unlabelled': {'hash': split_hash(SAMPLES[2:5]),
                       'images': ['002.png', '003.png', '004.png'],
                       'contents': [None, None, None]}}}


def test_other_images_than_a_run_began_with_are_refused(tmp_path):
    path = tmp_path / 'splits.json'
    began = {'outdoor': {'labelled': SAMPLES[:2], 'unlabelled': SAMPLES[2:5],
                         'validation': SAMPLES[5:]}}
    write_splits(path, began)
    write_splits(path, began)
    before = path.read_text(encoding='utf-8')
    for part, samples, difference in (
            ('labelled', SAMPLES[1:3], r'1 gone \(000\.png\), 1 new \(002\.png\)'),
            ('unlabelled', SAMPLES[2:], r'35 new \(005\.png, 006\.png, 007\.png, …\)'),
            ('validation', SAMPLES[7:], r'2 gone \(005\.png, 006\.png\)')):
        with pytest.raises(DataError, match=r'splits\.json: .*began with other images .* now: '
                                            f'outdoor, {part}: {difference}; bring'):
            write_splits(path, {'outdoor': began['outdoor'] | {part: samples}})
    assert path.read_text(encoding='utf-8') == before


def test_of_images_of_one_name_in_two_folders_those_that_have_gone_are_counted(tmp_path):
    began, path = [*SAMPLES[:3], *SAMPLES[:2]], tmp_path / 'splits.json'
    write_splits(path, {'outdoor': {'unlabelled': began}})
    with pytest.raises(DataError, match=r'unlabelled: 1 gone \(000\.png\); bring'):
        write_splits(path, {'outdoor': {'unlabelled': [*SAMPLES[:3], SAMPLES[1]]}})


def test_parts_that_a_run_did_not_write_down_are_added(tmp_path):
    path = tmp_path / 'splits.json'
    write_splits(path, {'outdoor': {'labelled': SAMPLES[:2]}})
    write_splits(path, {'outdoor': {'labelled': SAMPLES[:2], 'validation': SAMPLES[2:]}})
    assert list(json.loads(path.read_text())['outdoor']) == ['labelled', 'validation']


@pytest.mark.parametrize('text', ['', '[]', '{"outdoor": []}', '{"indoor": {"labelled": {}}}',
                                  '{"yard": {"labelled": {"images": []}}}',
                                  '{"outdoor": {"labelled": {"images": [1]}}}',
                                  '{"outdoor": {"labelled": {"images": ["a"], "contents": []}}}'])
def test_a_damaged_file_is_told(tmp_path, text):
    (tmp_path / 'splits.json').write_text(text)
    with pytest.raises(DataError, match=r'splits\.json: damaged'):
        write_splits(tmp_path / 'splits.json', {'outdoor': {'labelled': SAMPLES[:2]}})


@pytest.fixture
def files(tmp_path):
    """Return three samples of an image and a label, which a test may change."""
    samples = [Sample(tmp_path / f'{i}.jpg', tmp_path / f'{i}.png') for i in range(3)]
    for sample in samples:
        sample.image.write_bytes(b'an image, ' + sample.name.encode())
        sample.label.write_bytes(b'its label')
    return samples


def test_a_fingerprint_is_that_of_the_contents(files, tmp_path):
    expected = hashlib.sha256(b'15:an image, 0.jpg9:its label').hexdigest()[:16]
    assert fingerprint(files[0], whole=True) == fingerprint(files[0], whole=False) == expected
    assert fingerprint(Sample(files[0].image), whole=True) != expected
    assert fingerprint(Sample(tmp_path / 'none.jpg'), whole=True) is None


@pytest.mark.parametrize(('place', 'seen'), [
    (0, True), (WHOLE, True), (2 * WHOLE - 1, True), (2 * BLOCK, False)])
def test_of_a_large_file_without_label_three_blocks_are_looked_at(tmp_path, place, seen):
    sample, data = Sample(tmp_path / 'large.bmp'), bytearray(2 * WHOLE)
    sample.image.write_bytes(data)
    before = [fingerprint(sample, whole) for whole in (True, False)]
    data[place] = 1
    sample.image.write_bytes(data)
    now = [fingerprint(sample, whole) for whole in (True, False)]
    assert now[0] != before[0]
    assert (now[1] != before[1]) == seen


@pytest.mark.parametrize('part', ['labelled', 'unlabelled', 'validation'])
@pytest.mark.parametrize('which', ['image', 'label'])
def test_other_content_under_the_same_name_is_refused(files, tmp_path, part, which):
    path = tmp_path / 'splits.json'
    write_splits(path, {'outdoor': {part: files}})
    write_splits(path, {'outdoor': {part: files}})
    before = path.read_bytes()
    getattr(files[1], which).write_bytes(b'another')
    with pytest.raises(DataError, match=rf'outdoor, {part}: 1 of other content \(1\.jpg\); '
                                        'bring them back, or begin a new run'):
        write_splits(path, {'outdoor': {part: files}})
    assert path.read_bytes() == before


def test_what_has_gone_keeps_its_fingerprint(files, tmp_path):
    path, parts = tmp_path / 'splits.json', {'outdoor': {'unlabelled': files}}
    write_splits(path, parts)
    before = path.read_bytes()
    files[1].image.unlink()
    write_splits(path, parts)
    assert path.read_bytes() == before


def test_a_pipe_in_the_place_of_an_image_is_not_waited_for(files):
    files[0].image.unlink()
    os.mkfifo(files[0].image)
    assert fingerprint(files[0], whole=True) is None


def test_a_run_of_an_earlier_version_gets_fingerprints(files, tmp_path):
    path, parts = tmp_path / 'splits.json', {'outdoor': {'labelled': files}}
    path.write_text(json.dumps({'outdoor': {'labelled': {
        'hash': split_hash(files), 'images': [sample.name for sample in files]}}}))
    write_splits(path, parts)
    assert read_splits(path)['outdoor']['labelled']['contents'] == [
        fingerprint(sample, whole=True) for sample in files]


def test_without_a_file_nothing_is_known_of_a_run(tmp_path):
    assert read_splits(tmp_path / 'splits.json') == {}
