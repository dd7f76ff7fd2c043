"""Large JSON files come item by item."""

import json

import pytest
from univseg_core.files.json_items import read_items, read_list
from univseg_core.files.records import RecordError


def test_items_of_lists_come_one_by_one_and_other_values_whole(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(' {"a" : [1 , {"b": [2, "],}"]}],\n"c":{"d": []}, "e": [ ], "f": -1.5e3}\n',
                    encoding='utf-8-sig')
    assert list(read_items(path)) == [('a', 1), ('a', {'b': [2, '],}']}), ('c', {'d': []}),
                                      ('f', -1500)]
    path.write_text('{}')
    assert list(read_items(path)) == []


def test_what_is_sound_comes_before_an_error(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps({'a': [1, 2], 'b': 3})[:-9])
    items = read_items(path)
    assert [next(items), next(items)] == [('a', 1), ('a', 2)]
    with pytest.raises(RecordError, match='expected , or }, got its end at character 12'):
        next(items)


@pytest.mark.parametrize(('read', 'text'), [
    (read_items, '{} x'), (read_items, '{"a": [1]} {}'), (read_list, '[] x'), (read_list, '[1]]')])
def test_what_follows_behind_the_end_is_refused(read, text, tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(RecordError, match='something follows behind its end'):
        list(read(path))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / 'a.json'
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(RecordError, match='UTF-8'):
        read_items(path)
