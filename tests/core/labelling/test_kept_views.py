"""Views in a file: the same again, whatever a kill has left of it."""

import os

import numpy as np
import pytest
from univseg_core.labelling.frame_views import FrameView
from univseg_core.labelling.kept_views import KeptViews

MADE_BY = {'model': 'abc', 'temperature': 1.0}


def some_view(seed, alone=False):
    generator = np.random.default_rng(seed)
    return FrameView(generator.random(3), generator.random(3), generator.random(),
                     None if alone else generator.random(),
                     None if alone else (2, 0, generator.random()), generator.random(),
                     generator.random(5).astype(np.float32), 2**64 - 1 - seed)


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in (
        'shown', 'uncertain', 'undecided', 'contradicted', 'confusion', 'outline', 'vector',
        'picture'))


@pytest.fixture
def frames(tmp_path):
    paths = [tmp_path / f'{i}.png' for i in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


@pytest.fixture
def path(tmp_path, frames):
    """Return a file with the views of three frames."""
    path = tmp_path / 'ranking' / 'views.jsonl'
    with KeptViews(path, MADE_BY, 3) as kept:
        for i, frame in enumerate(frames):
            assert kept.get(frame) is None
            kept.add(frame, some_view(i, alone=i == 1))
    return path


def known(path, frames, made_by=MADE_BY, classes=3):
    with KeptViews(path, made_by, classes) as kept:
        return [kept.get(frame) for frame in frames]


def test_views_come_back_to_the_last_bit(path, frames):
    for i, view in enumerate(known(path, frames)):
        assert same(view, some_view(i, alone=i == 1))
        assert view.vector.dtype == np.float32


def test_a_kill_at_any_byte_costs_no_more_than_the_line_that_was_written(path, frames):
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord('\n')]
    for size in (*range(0, len(data), 17), len(data) - 1):
        path.write_bytes(data[:size])
        found = sum(view is not None for view in known(path, frames))
        assert found == max(0, sum(end <= size for end in ends) - 1)
        with KeptViews(path, MADE_BY, 3) as kept:
            for i, frame in enumerate(frames):
                if kept.get(frame) is None:
                    kept.add(frame, some_view(i, alone=i == 1))
        assert path.read_bytes() == data


def test_a_frame_that_has_changed_has_no_view(path, frames):
    frames[0].write_bytes(b'something longer')
    os.utime(frames[1], ns=(1, 1))
    assert [view is None for view in known(path, frames)] == [True, True, False]


@pytest.mark.parametrize('made_by', [{**MADE_BY, 'model': 'abd'}, {**MADE_BY, 'temperature': 2}])
def test_views_of_another_model_are_not_taken(path, frames, made_by):
    assert known(path, frames, made_by) == [None, None, None]
    assert known(path, frames) == [None, None, None]  # they are gone now


@pytest.mark.parametrize('line', [b'nonsense', b'[1]', b'["a", 1, "AAAA"]',
                                  b'["a", 1, "?"]', b'["a", 1, null]', b'["a", {}, ""]', b'{}',
                                  b'["a", 1, "' + b'A' * (1 << 20) + b'"]'])
def test_a_damaged_file_begins_anew(path, frames, line, caplog):
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b''.join([lines[0], line + b'\n', *lines[1:]]))
    assert known(path, frames) == [None, None, None]
    assert 'views.jsonl: damaged' in caplog.text
    assert path.read_bytes() == lines[0]


def test_views_of_other_classes_are_not_taken(path, frames):
    assert known(path, frames, classes=2) == [None, None, None]
