"""Label maps that come back become a labelled folder, whole or not at all."""

import shutil

from label_maps import contents, DECODER, run_import, YARD
import numpy as np
from PIL import Image
import pytest
from tiny_worlds import random_image
from univseg_core.datasets.folders import by_name, labelled_samples, read_sample
from univseg_core.errors import UnivsegError
from univseg_core.labelling import label_import
from univseg_core.labelling.frame_folder import frames_of
from univseg_core.labelling.label_import import import_labels
from univseg_core.labelling.returned_files import by_frame
from univseg_core.pictures.images import read_label, write_png


def test_what_comes_back_is_a_labelled_folder(labels, frames, tmp_path):
    folder, masks = labels
    out = tmp_path / 'new' / 'yard'
    done = run_import(folder, frames, out)
    assert (done.added, done.replaced, done.unchanged) == (['a', 'b.c', 'd'], [], [])
    samples = labelled_samples(out / 'image', out / 'label')
    assert [sample.name for sample in samples] == ['a.png', 'b.c.jpg', 'd.png']
    for sample in samples:
        _, label = read_sample(sample, YARD)
        np.testing.assert_array_equal(label, masks[sample.image.stem])
        assert sample.image.read_bytes() == (frames / sample.name).read_bytes()
        assert sample.image.stat().st_nlink == 1
    assert (out / 'classes.txt').read_text() == 'grass\nwall\ncar\n'
    assert [path.name for path in out.parent.iterdir()] == ['yard']


def test_the_same_again_changes_nothing(labels, frames, tmp_path):
    run_import(labels[0], frames, tmp_path / 'out')
    before = contents(tmp_path / 'out')
    done = run_import(labels[0], frames, tmp_path / 'out')
    assert done.unchanged == ['a', 'b.c', 'd']
    assert contents(tmp_path / 'out') == before


def test_a_second_correction_replaces_and_further_labels_are_added(labels, frames, tmp_path):
    folder, masks = labels
    (folder / 'd.png').rename(tmp_path / 'd.png')
    run_import(folder, frames, tmp_path / 'out')
    (tmp_path / 'd.png').rename(folder / 'd.png')
    write_png(folder / 'a.png', masks['d'])
    done = run_import(folder, frames, tmp_path / 'out')
    assert (done.added, done.replaced, done.unchanged) == (['d'], ['a'], ['b.c'])
    np.testing.assert_array_equal(read_label(tmp_path / 'out/label/a.png', YARD), masks['d'])


def test_all_problems_are_told_before_anything_is_written(labels, frames, tmp_path):
    folder, masks = labels
    write_png(folder / 'a.png', masks['a'].T)
    write_png(folder / 'b.c.png', masks['b.c'][:20])
    write_png(folder / 'd.png', np.full((24, 32, 3), 77, np.uint8))
    write_png(folder / 'stranger.png', masks['a'])
    with pytest.raises(UnivsegError) as told:
        run_import(folder, frames, tmp_path / 'out')
    first, *problems = str(told.value).splitlines()
    assert first == '4 problems, so that nothing is written:'
    for problem, name, text in zip(
            problems, ('a', 'b.c', 'd', 'stranger'),
            ('label map is 24×32, its image 32×24 (turned by', 'label map is 32×20, its image '
             '32×24', '(77, 77, 77) in 768 pixels', 'no frame is called stranger'), strict=True):
        assert f'{folder / name}.png: ' in problem
        assert text in problem
    assert 'turned' not in problems[1]
    assert not (tmp_path / 'out').exists()


def test_a_frame_that_cannot_be_read_is_a_problem(labels, frames, tmp_path):
    (frames / 'a.png').write_bytes(b'')
    with pytest.raises(UnivsegError, match=r'1 problem, so that nothing is written:\n.*a\.png: '
                       'the file is empty'):
        run_import(labels[0], frames, tmp_path / 'out')


def test_another_picture_of_the_same_name_is_not_overwritten(labels, frames, tmp_path):
    out = tmp_path / 'out'
    write_png(out / 'image' / 'a.png', random_image(24, 32, 9))
    shutil.copy(frames / 'd.png', out / 'image' / 'd.jpg')  # the ending makes it another
    before = contents(out)
    with pytest.raises(UnivsegError) as told:
        run_import(labels[0], frames, out)
    assert str(told.value).count('another picture of this name is there already') == 2
    assert contents(out) == before


def test_a_folder_of_other_classes_takes_none(labels, frames, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'classes.txt').write_text('sky\nsea\n')
    with pytest.raises(UnivsegError, match=r'labels of other classes: sky, sea'):
        run_import(labels[0], frames, tmp_path / 'out')


def test_label_maps_without_a_class_are_left_out(labels, frames, tmp_path):
    write_png(labels[0] / 'a.png', np.full((24, 32), 255, np.uint8))
    done = run_import(labels[0], frames, tmp_path / 'out')
    assert (done.empty, done.added) == (['a'], ['b.c', 'd'])
    assert len(labelled_samples(tmp_path / 'out/image', tmp_path / 'out/label')) == 2


def test_a_full_disk_leaves_the_folder_as_it_was(labels, frames, tmp_path, full_disk):
    folder, masks = labels
    out = tmp_path / 'out'
    (folder / 'd.png').rename(tmp_path / 'd.png')
    run_import(folder, frames, out)
    before = contents(out)
    (tmp_path / 'd.png').rename(folder / 'd.png')
    write_png(folder / 'a.png', masks['d'])
    Image.fromarray(random_image(100, 100)).save(frames / 'd.png')  # 30 kB
    write_png(folder / 'd.png', np.zeros((100, 100), np.uint8))
    with full_disk(), pytest.raises(OSError, match='too large'):
        run_import(folder, frames, out)
    assert contents(out) == before
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize('after', range(8))
def test_a_kill_leaves_no_image_without_its_label(labels, frames, tmp_path, monkeypatch, after):
    run_import(labels[0], frames, tmp_path / 'whole')
    moves = []

    def killed(*arguments, move=label_import._move):
        moves.append(arguments[-1])
        if len(moves) > after:
            raise KeyboardInterrupt
        move(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(label_import, '_move', killed)
        run_import(labels[0], frames, tmp_path / 'out')
    assert len(moves) == after + 1
    images, maps = ({path.stem for path in (tmp_path / 'out' / name).iterdir()}
                    for name in ('image', 'label'))
    assert images <= maps
    run_import(labels[0], frames, tmp_path / 'out')
    for name, (data, _) in contents(tmp_path / 'whole').items():
        assert (tmp_path / 'out' / name).read_bytes() == data


def test_frames_that_exif_data_turns_are_told(labels, frames, tmp_path):
    """Those of the label map's size may have been labelled as they lie: nobody can know."""
    folder, masks = labels
    for name, orientation in (('a', 3), ('d', 6)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(random_image(24, 32)).save(frames / f'{name}.png', exif=exif)
    with pytest.raises(UnivsegError) as told:
        run_import(folder, frames, tmp_path / 'out')
    assert str(told.value).count('\n') == 1
    assert 'd.png: the label map is 32×24, its image 24×32: the orientation in' in str(told.value)
    write_png(folder / 'd.png', masks['d'].T)
    assert run_import(folder, frames, tmp_path / 'out').turned == ['a', 'd']


def test_endings_in_any_case_and_hidden_files(labels, frames, tmp_path, caplog):
    folder, masks = labels
    (frames / 'e.HEIC').write_bytes(b'of a telephone')
    (folder / 'a.png').rename(folder / 'a.PNG')
    (folder / '._a.png').write_bytes(b'of a Mac')
    (frames / 'a.png').rename(frames / 'a.Png')
    (frames / '._d.png').write_bytes(b'of a Mac')
    returned = by_frame(frames_of(folder), by_name(frames_of(frames)), DECODER)
    done = import_labels(returned, tmp_path / 'out', YARD, progress=False)
    assert done.added == ['a', 'b.c', 'd']
    assert (tmp_path / 'out/image/a.Png').is_file()
    assert f'1 pictures of {frames} are of a kind that is not read (e.HEIC; ' in caplog.text
    np.testing.assert_array_equal(read_label(tmp_path / 'out/label/a.png', YARD), masks['a'])


@pytest.mark.parametrize('text', ['\ufeffgrass\r\nwall\r\ncar\r\n', 'grass\nwall\ncar\n\n'])
def test_classes_that_an_editor_wrote_are_the_same(labels, frames, tmp_path, text):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/classes.txt').write_bytes(text.encode())
    assert len(run_import(labels[0], frames, tmp_path / 'out').added) == 3
