"""JSON and tables of any content: plain values, or one error; no more is made than is meant."""

import os

import numpy as np
import pytest
from scipy.io import savemat
from univseg_core.batches.splits import read_splits
from univseg_core.datasets.folders import DataError
from univseg_core.datasets.layouts.matlab import load_small
from univseg_core.files import records
from univseg_core.files.records import parse_json, read_json, read_rows, RecordError


def test_plain_values(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text('{"a": [1, null, "ä"]}', encoding='utf-8')
    assert read_json(path) == parse_json(path.read_bytes()) == {'a': [1, None, 'ä']}


@pytest.mark.parametrize(('text', 'message'), [
    ('[' * 100_000, 'values too deep'), ('{"a":' * 100_000, 'values too deep'), ('', 'not JSON'),
    ('{"a": ' + '9' * 5000 + '}', 'not JSON'), ('"\ud800', 'not JSON'), (b'"\xff"', 'not JSON'),
    ('[' + ',' * 12, 'more than 10 values'), ('[' * 11, 'more than 10 values'),
])
def test_what_is_no_json_is_one_error(text, message, monkeypatch):
    if '10 values' in message:
        monkeypatch.setattr(records, 'MOST_VALUES', 10)
    with pytest.raises(RecordError, match=message) as told:
        parse_json(text)
    assert len(str(told.value)) < 500


def test_a_file_is_not_read_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv('UNIVSEG_MAX_RECORDS', '1000')
    path = tmp_path / 'splits.json'
    path.write_text('"' + 998 * 'x' + '"')
    assert read_json(path) == 998 * 'x'
    os.truncate(path, 2**40)
    for read in (read_json, read_rows):
        with pytest.raises(RecordError, match='more than 1000 bytes, which UNIVSEG_MAX_RECORDS'):
            read(path)
    with pytest.raises(DataError, match=r'splits\.json: .*UNIVSEG_MAX_RECORDS'):
        read_splits(path)


def test_an_array_of_matlab_is_not_unpacked_beyond_the_limit(tmp_path, monkeypatch):
    savemat(tmp_path / 'a.mat', {'x': np.zeros((50, 20)), 'y': np.ones(3)}, do_compression=True)
    monkeypatch.setenv('UNIVSEG_MAX_RECORDS', '7999')
    with pytest.raises(DataError, match=r'a\.mat: x: 1000 values, more than 7999 bytes'):
        load_small(tmp_path / 'a.mat', 'x')
    assert load_small(tmp_path / 'a.mat', 'y').tolist() == [1, 1, 1]


@pytest.mark.parametrize('read', [read_json, read_rows])
def test_what_is_no_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / 'pipe')
    for path in (tmp_path / 'pipe', tmp_path):
        with pytest.raises(RecordError, match='not a file'):
            read(path)


def test_rows_by_their_columns(tmp_path):
    path = tmp_path / 'a.csv'
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n1,"x,\ny"\r\n2\r\n3,4,5\r\nun')
    rows = [{'a': '1', 'b': 'x,\ny'}, {'a': '2', 'b': None}, {'a': '3', 'b': '4', '': ['5']}]
    assert read_rows(path, whole_lines=True) == (['a', 'b'], rows)
    assert read_rows(path) == (['a', 'b'], [*rows, {'a': 'un', 'b': None}])


@pytest.mark.parametrize(('data', 'strict', 'message'), [
    (b'a,b\n"' + bytes(200_000), False, 'not a table: field larger'),
    (b'a,b\n1,"x', True, 'not a table'), (b'\xff', True, 'not a text in UTF-8'),
    (4 * b'a\n', False, 'more than 3 rows'), (4 * b'a\r', False, 'more than 3 rows'),
    (b'a,b,c,d,e,f\n', False, 'more than 5 values'),
])
def test_what_is_no_table_is_one_error(tmp_path, monkeypatch, data, strict, message):
    monkeypatch.setattr(records, 'MOST_ROWS', 3)
    monkeypatch.setattr(records, 'MOST_VALUES', 5)
    (tmp_path / 'a.csv').write_bytes(data)
    with pytest.raises(RecordError, match=message):
        read_rows(tmp_path / 'a.csv', strict=strict)
