"""Which format a file or folder is of is recognised, or told why not."""

import zipfile

import numpy as np
import pytest
from regions_file import BOXES
from univseg_core.annotations.formats import Format
from univseg_core.datasets.folders import by_name, DataError
from univseg_core.labelling.import_sources import recognised, sources
from univseg_core.pictures.images import write_png


@pytest.fixture(autouse=True)
def boxes(monkeypatch):
    monkeypatch.setattr('univseg_core.labelling.import_sources.FORMATS', {
        'boxes': BOXES, 'written': Format('only written'),
        'lines': Format('lines of text', lambda path: path.suffix == '.lines' or (
            path.is_dir() and any(path.rglob('*.lines'))), BOXES.read)})


@pytest.fixture
def frames(tmp_path):
    for name in 'ab':
        write_png(tmp_path / 'frames' / f'{name}.png', np.zeros((2, 2), np.uint8))
    return by_name((tmp_path / 'frames').iterdir())


def folder(tmp_path, *names):
    (tmp_path / 'x').mkdir(exist_ok=True)
    for name in names:
        (tmp_path / 'x' / name).write_text('')
    return tmp_path / 'x'


def test_formats_that_can_be_read_are_listed():
    assert list(sources()) == ['masks', 'boxes', 'lines']
    assert sources()['boxes'] == 'rectangles'


def test_a_file_or_a_folder_is_recognised(tmp_path, frames):
    source = folder(tmp_path, 'some.boxes', 'notes.txt')
    assert recognised(source, frames) == 'boxes'
    assert recognised(source / 'some.boxes', frames) == 'boxes'


def test_pngs_alone_are_masks(tmp_path, frames):
    write_png(tmp_path / 'x' / 'anything.png', np.zeros((2, 2, 3), np.uint8))
    assert recognised(tmp_path / 'x', frames) == 'masks'


def test_two_formats_in_a_folder_are_named_with_their_files(tmp_path, frames):
    source = folder(tmp_path, 'a.boxes', 'b.boxes', 'c.lines')
    with pytest.raises(DataError, match=r'x: of 2 formats: boxes \(a\.boxes, b\.boxes\); lines '
                       r'\(c\.lines\)\. Say --format NAME'):
        recognised(source, frames)
    assert recognised(source, frames, 'lines') == 'lines'


def test_files_that_lie_deeper_are_named_too(tmp_path, frames):
    source = tmp_path / 'x'
    write_png(source / 'b.png', np.ones((2, 2), np.uint8))
    for name in ('of/tool/a.lines', 'of/.hidden/b.lines'):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_text('')
    with pytest.raises(DataError, match=r'lines \(of/tool/a\.lines\); masks \(b\.png\)'):
        recognised(source, frames)


def test_label_maps_beside_another_format_are_a_second_one_and_copies_of_frames_are_not(
        tmp_path, frames):
    source = folder(tmp_path, 'a.boxes')
    (source / 'a.png').write_bytes(frames['a'].read_bytes())
    write_png(source / 'c.png', np.ones((2, 2), np.uint8))  # of no frame
    (source / 'b.png').mkdir()
    assert recognised(source, frames) == 'boxes'
    (source / 'b.png').rmdir()
    for mask in (np.ones((2, 2), np.uint8), np.ones((2, 2, 3), np.uint8)):
        write_png(source / 'b.png', mask)
        with pytest.raises(DataError, match=r'boxes \(a\.boxes\); masks \(b\.png\)\. Say'):
            recognised(source, frames)


@pytest.mark.parametrize('insisted', [None, 'masks', 'boxes'])
def test_one_picture_is_no_source(frames, insisted):
    with pytest.raises(DataError, match=r'a\.png: one picture; name the folder that it is in$'):
        recognised(frames['a'], frames, insisted)


def test_an_archive_is_to_be_unpacked(tmp_path, frames):
    for name in ('export.zip', 'x/export.dat'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / name, 'w') as archive:
            archive.writestr('a.boxes', '')
        with pytest.raises(DataError, match=f'{name}: an archive; unpack it, and name the folder'):
            recognised(tmp_path / name, frames, 'boxes')
    with pytest.raises(DataError, match=r'x: of no format that is known; unpack export\.dat firs'):
        recognised(tmp_path / 'x', frames)


def test_what_is_nothing_gets_the_formats_listed(tmp_path, frames):
    (folder(tmp_path, 'notes.txt') / 'inside').mkdir()
    with pytest.raises(DataError, match=r'x: of no format that is known; the folders in it are '
                       r'inside\nKnown are:\n  masks: .*\n  boxes: rectangles\n  lines: lines of'):
        recognised(tmp_path / 'x', frames)
    with pytest.raises(DataError, match=r'notes\.txt: of no format'):
        recognised(tmp_path / 'x' / 'notes.txt', frames)
    with pytest.raises(DataError, match='gone: no such file or folder'):
        recognised(tmp_path / 'gone', frames)
