"""`univseg frames` of videos and of folders of images, beside bags."""

import fcntl
import json
import os
import shutil

from bag_files import jpeg, pictures, raw, write_bag
import cv2
import numpy as np
from PIL import Image
import pytest
from univseg_core.cli import main
from univseg_core.datasets import frames
from univseg_core.datasets.cache import claimed, LOCK
from univseg_core.datasets.frames import extract_frames, ExtractionSettings
from univseg_core.datasets.manifest import MANIFEST, Manifest, read_manifest
from univseg_core.datasets.sources import video_print
from univseg_core.datasets.sources.video_print import VideoPrint
from univseg_core.files import sha256_of
from univseg_core.pictures.images import read_image
from video_streams import encoded, moving, turn, write_video

EXACT = ExtractionSettings(codec='png', duplicate_bits=None)
TIMES = [0, 33, 66, 100, 400, 410, 1000, 1033]


@pytest.fixture
def video(tmp_path):
    """Return a video of eight pictures whose rate varies."""
    return write_video(tmp_path / 'drive.mp4', moving(8), TIMES)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of four photos: b.jpg lies on its side, c.png is of 16 bits."""
    path = tmp_path / 'photos'
    path.mkdir()
    images = pictures(4)
    (path / 'a.jpg').write_bytes(jpeg(images[0]))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(images[1]).save(path / 'b.jpg', exif=exif)
    cv2.imwrite(str(path / 'c.png'), images[2].astype(np.uint16) * 257)
    Image.fromarray(images[3]).save(path / 'd.PNG')
    return path


def extract(sources, out, *arguments):
    """Run the command; return its exit status."""
    return main(['frames', *map(str, sources), '--out', str(out), *arguments])


def everything(out):
    """Return the bytes and time of change of all files."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in out.iterdir() if path.name != 'lock'}


def by_opencv(video):
    """Return the pictures of a video, (H, W, 3) uint8 BGR, as OpenCV alone reads them."""
    capture = cv2.VideoCapture(str(video))
    read = []
    while (found := capture.read())[0]:
        read.append(found[1])
    return read


def kept(out):
    return [row for row in read_manifest(out) if row.outcome == 'kept']


def test_a_video_gives_its_pictures_at_their_own_times(video, tmp_path, capsys):
    out = tmp_path / 'out'
    assert extract([video], out, '--format', 'png', '--duplicates', 'keep') == 0
    rows = read_manifest(out)
    assert [(row.bag, row.topic, row.stamp, row.time, row.width, row.height, row.outcome)
            for row in rows] == [
        ('drive.mp4', '', time * 10**6, time * 10**6, 96, 64, 'kept') for time in TIMES]
    assert rows[3].file == 'drive_mp4-0000000000100000000.png'
    for row, picture in zip(rows, by_opencv(video), strict=True):
        np.testing.assert_array_equal(read_image(out / row.file)[..., ::-1], picture)
    assert 'drive.mp4: kept 8 of 8 frames\n' in capsys.readouterr().out


@pytest.mark.parametrize(('settings', 'numbers'), [
    ({'every': 3}, [0, 3, 6]), ({'min_interval': 0.1}, [0, 3, 4, 6]),
    ({'start': 0.05, 'end': 0.41}, [2, 3, 4]), ({'start': 2.0}, [])])
def test_the_choice_by_number_and_time(video, tmp_path, settings, numbers):
    report = extract_frames([video], tmp_path / 'out', progress=False, settings=ExtractionSettings(
        duplicate_bits=None, **settings))
    assert [TIMES.index(row.time // 10**6) for row in kept(tmp_path / 'out')] == numbers
    assert not report.problems
    assert list(report.counts) == [('drive.mp4', '')]
    assert report.notes == ([] if numbers else ['drive.mp4: no image from 2 s'])


def test_a_video_that_says_that_it_is_turned(video, tmp_path):
    upright = by_opencv(video)
    turn(video)
    extract_frames([video], tmp_path / 'out', settings=EXACT, progress=False)
    rows = read_manifest(tmp_path / 'out')
    assert {(row.width, row.height) for row in rows} == {(64, 96)}
    for row, picture in zip(rows, upright, strict=True):
        np.testing.assert_array_equal(read_image(tmp_path / 'out' / row.file)[..., ::-1],
                                      np.rot90(picture, -1))


def test_a_stream_without_times_has_those_of_its_rate(tmp_path):
    path = tmp_path / 'bare.h264'
    path.write_bytes(b''.join(data for _, data in encoded(moving(5))))
    extract_frames([path], tmp_path / 'out', settings=EXACT, progress=False)
    assert [row.stamp for row in kept(tmp_path / 'out')] == [0, 40e6, 80e6, 120e6, 160e6]


def test_a_video_that_is_cut_off_gives_what_is_readable_and_goes_on_when_it_is_whole(
        tmp_path, capsys):
    noise = list(np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), np.uint8))
    video = write_video(tmp_path / 'drive.mkv', noise, range(0, 4000, 100))
    whole = video.read_bytes()
    assert len(whole) > 2**18
    video.write_bytes(whole[:len(whole) // 2])
    out = tmp_path / 'out'
    for _ in range(2):
        assert extract([video], out) == 1
        error = capsys.readouterr().err
        assert f'univseg frames: {video}: broken or cut off after ' in error
        assert 'it says that it lasts 3.9 s' in error
    some = len(kept(out))
    assert 10 < some < 30
    before = everything(out)
    video.write_bytes(whole)
    assert extract([video], out) == 0
    assert len(kept(out)) == 40
    assert f'{some} of these images known from before' in capsys.readouterr().out
    assert all(everything(out)[row.file] == before[row.file] for row in kept(out)[:some])


@pytest.mark.parametrize(('name', 'content'), [
    ('a.mp4', b''), ('a.mp4', b'\0' * 5000), ('notes.txt', b'not a video\n' * 100),
    ('a.yaml', b'a: 1\n'), ('cut.mp4', None)])
def test_what_is_no_video(video, tmp_path, capsys, name, content):
    path = tmp_path / name
    path.write_bytes(video.read_bytes()[:2000] if content is None else content)
    assert extract([path, video], tmp_path / 'out') == 1
    assert f'univseg frames: {path}: not a readable video; expected' in capsys.readouterr().err
    assert len(kept(tmp_path / 'out')) > 3  # of the other


def test_a_video_without_a_picture(tmp_path, capsys):
    path = tmp_path / 'none.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data.replace(data[data.index(b'\xff\xd8'):][:400], bytes(400)))
    assert extract([path], tmp_path / 'out') == 1
    assert f'{path}: no picture in it can be decoded' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_folder_of_images_in_the_order_of_their_names(folder, tmp_path, capsys):
    out = tmp_path / 'out'
    assert extract([folder], out) == 0
    rows = read_manifest(out)
    assert [(row.file, row.bag, row.topic, row.stamp, row.time) for row in rows] == [
        (f'photos-{name[0]}.jpg', 'photos', name, (folder / name).stat().st_mtime_ns,
         int(sha256_of(folder / name)[:15], 16))
        for name in ('a.jpg', 'b.jpg', 'c.png', 'd.PNG')]
    for name in 'ab':
        assert (out / f'photos-{name}.jpg').read_bytes() == (folder / f'{name}.jpg').read_bytes()
    for name in ('b.jpg', 'c.png', 'd.PNG'):
        found = read_image(out / f'photos-{name[0]}.jpg')
        assert np.abs(found.astype(int) - read_image(folder / name)).mean() < 20
    assert read_image(out / 'photos-b.jpg').shape == (48, 32, 3)
    told = capsys.readouterr().out
    assert 'photos: kept 4 of 4 frames\n' in told
    assert f'{folder}: its images have no times, and are taken in the order of their names' in told


def test_png_of_eight_bits_is_kept_byte_by_byte(folder, tmp_path):
    extract_frames([folder], tmp_path / 'out', settings=EXACT, progress=False)
    out = tmp_path / 'out'
    assert (out / 'photos-d.png').read_bytes() == (folder / 'd.PNG').read_bytes()
    for name in ('b.jpg', 'c.png'):
        np.testing.assert_array_equal(read_image(out / f'photos-{name[0]}.png'),
                                      read_image(folder / name))


def test_times_matter_nothing_to_a_folder(folder, tmp_path, capsys):
    assert extract([folder], tmp_path / 'a', '--min-interval', '9', '--every', '3') == 0
    assert [row.topic for row in kept(tmp_path / 'a')] == ['a.jpg', 'd.PNG']
    capsys.readouterr()
    assert extract([folder], tmp_path / 'b', '--start', '9') == 1
    assert f'{folder}: a folder of images has no times, so that --start' in capsys.readouterr().err


def test_near_duplicates_of_a_folder(tmp_path):
    folder, (one, other) = tmp_path / 'photos', pictures(2)
    folder.mkdir()
    for name, picture in zip('abcd', (one, one, other, one), strict=True):
        (folder / f'{name}.jpg').write_bytes(jpeg(picture))
    extract_frames([folder], tmp_path / 'out', progress=False)
    assert [row.outcome for row in read_manifest(tmp_path / 'out')] == [
        'kept', 'duplicate', 'kept', 'kept']


def test_a_damaged_image_is_counted_and_what_is_not_read_is_told(folder, tmp_path, capsys):
    (folder / 'a.jpg').write_bytes((folder / 'a.jpg').read_bytes()[:-300])
    (folder / 'e.heic').write_bytes(b'x')
    (folder / 'f.mp4').write_bytes(b'x')
    (folder / 'notes.txt').write_bytes(b'x')
    assert extract([folder], tmp_path / 'out') == 1
    told = capsys.readouterr()
    assert 'kept 3 of 4 frames; 1 unreadable (the first: a.jpg: ' in told.out
    assert '1 videos in it were not read, as they are sources of their own: f.mp4' in told.out
    assert f'1 pictures of {folder} are of a kind that is not read (e.heic;' in told.err


@pytest.mark.parametrize(('name', 'error'), [
    ('empty', 'no ROS 2 bag, and no images in it; expected .png, .jpg'),
    ('nowhere', 'no such file or folder; expected a ROS 2 bag, a video or a folder of images'),
    ('photos/a.jpg', 'a single image; expected its folder, a video or a ROS 2 bag'),
    ('of', 'no images in it; expected .png, .jpg, .jpeg, .bmp, .tif, .tiff, .webp; its videos '
           'are sources of their own: v.mp4; the folders in it are more'),
    ('photos.ZIP', 'an archive; unpack it, and give the folder, video or ROS 2 bag'),
    ('old.bag', 'not a ROS 2 bag; expected')])
def test_what_is_no_source(folder, tmp_path, capsys, name, error):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'of' / 'more').mkdir(parents=True)
    (tmp_path / 'of' / 'v.mp4').touch()
    (tmp_path / 'old.bag').touch()
    (tmp_path / 'photos.ZIP').touch()
    assert extract([tmp_path / name], tmp_path / 'out') == 1
    told = capsys.readouterr()
    assert f'univseg frames: {tmp_path / name}: ' in told.err
    assert error in told.err
    assert not (tmp_path / 'out').exists()


def test_images_beside_the_metadata_of_no_bag(folder, tmp_path, capsys):
    (folder / 'metadata.yaml').write_text('a: 1\n')
    assert extract([folder], tmp_path / 'out') == 1
    told = capsys.readouterr()
    assert 'its image topics: none' in told.err
    assert 'the 4 images in it are not (a folder of their own is)' in told.out


def test_all_kinds_in_one_command_that_changes_nothing_when_it_is_given_again(
        folder, video, tmp_path, capsys):
    bag = write_bag(tmp_path / 'drive_1', {'/cam': [raw(0, pictures(1)[0])]})
    (bag / 'thumbnail.png').write_bytes((folder / 'd.PNG').read_bytes())
    arguments = ([video, folder, bag], tmp_path / 'out', '--size', '40')
    assert extract(*arguments) == 0
    assert [(row.bag, row.topic) for row in read_manifest(tmp_path / 'out')] == [
        *[('drive.mp4', '')] * 8, ('photos', 'a.jpg'), ('photos', 'b.jpg'), ('photos', 'c.png'),
        ('photos', 'd.PNG'), ('drive_1', '/cam')]
    assert {max(row.width, row.height) for row in kept(tmp_path / 'out')} == {40}
    assert f'{bag}: is read as a bag, as its files or metadata.yaml tell; the 1 images in it' in (
        capsys.readouterr().out)
    before = everything(tmp_path / 'out')
    assert extract(*arguments, '--json') == 0
    assert everything(tmp_path / 'out') == before
    found = json.loads(capsys.readouterr().out)
    assert found['known'] == 13
    assert [(each['bag'], each['topic'], each['messages']) for each in found['topics']] == [
        ('drive.mp4', '', 8), ('photos', '', 4), ('drive_1', '/cam', 1)]


def test_what_is_given_twice_is_taken_once(folder, video, tmp_path, capsys):
    bag = write_bag(tmp_path / 'drive_1', {'/cam': [raw(0, pictures(1)[0])]})
    copy = shutil.copy(video, tmp_path / 'copy.mp4')
    again = [folder / '..' / 'photos', copy, tmp_path / '.' / 'drive_1', video]
    assert extract([folder, video, bag, *again], tmp_path / 'out', '--duplicates', 'keep') == 0
    assert len(read_manifest(tmp_path / 'out')) == 4 + 8 + 1
    told = capsys.readouterr().out
    assert all(f'{path}: the same as one before it, and taken once\n' in told for path in again)
    before = everything(tmp_path / 'out')
    assert extract([folder, video, bag, *again], tmp_path / 'out', '--duplicates', 'keep') == 0
    assert everything(tmp_path / 'out') == before


@pytest.mark.parametrize('failing', [2, 9])
def test_an_interrupted_call_goes_on(folder, video, tmp_path, monkeypatch, failing):
    settings = ExtractionSettings(min_interval=0.1)
    extract_frames([video, folder], tmp_path / 'whole', settings=settings, progress=False)
    judge, count = frames.Judge.judge, iter(range(99))

    def interrupted(*arguments):
        if next(count) == failing:
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(frames.Judge, 'judge', interrupted)
    out = tmp_path / 'out'
    with pytest.raises(KeyboardInterrupt):
        extract_frames([video, folder], out, settings=settings, progress=False)
    monkeypatch.undo()
    extract_frames([video, folder], out, settings=settings, progress=False)
    assert {name: data for name, (data, _) in everything(out).items()} == {
        name: data for name, (data, _) in everything(tmp_path / 'whole').items()}


def test_two_sources_of_one_name_are_told_apart_and_one_that_moves_is_not_read_twice(
        video, folder, tmp_path):
    for name in ('day_1', 'day_2'):
        (tmp_path / name).mkdir()
    first = video.rename(tmp_path / 'day_1' / video.name)
    second = write_video(tmp_path / 'day_2' / 'drive.mp4', moving(3), TIMES[:3])
    out = tmp_path / 'out'
    extract_frames([first, second], out, settings=EXACT, progress=False)
    assert [row.bag for row in read_manifest(out)] == ['drive.mp4'] * 8 + ['drive.mp4-2'] * 3
    assert len({row.file for row in read_manifest(out)}) == 11
    moved = first.rename(tmp_path / 'elsewhere.mp4')
    assert extract_frames([moved, second], out, settings=EXACT, progress=False).known == 11
    assert list(json.loads((out / 'sources.json').read_text())) == ['drive.mp4', 'drive.mp4-2']
    (out / 'sources.json').write_text('[1]')
    with pytest.raises(ValueError, match=r'sources\.json: damaged: expected a text for each'):
        extract_frames([moved], out, settings=EXACT, progress=False)


@pytest.mark.parametrize('share', [0.05, 0.3, 0.7])
def test_a_video_that_grows_stays_the_same(tmp_path, share):
    random = np.random.default_rng(0)
    noise = list(random.integers(0, 256, (60, 48, 64, 3), np.uint8))
    video = write_video(tmp_path / 'drive.mkv', noise, range(0, 6000, 100))
    whole, out = video.read_bytes(), tmp_path / 'out'
    assert 2**17 < len(whole) < 2**20
    video.write_bytes(whole[:int(len(whole) * share)])
    extract_frames([video], out, settings=EXACT, progress=False)
    some = len(kept(out))
    assert 0 < some < 55
    video.write_bytes(whole)
    assert extract_frames([video], out, settings=EXACT, progress=False).known == some
    assert extract_frames([video], out, settings=EXACT, progress=False).known == 60
    assert list(json.loads((out / 'sources.json').read_text())) == ['drive.mkv']


def test_videos_of_equal_bytes_but_other_pictures_are_two(tmp_path, monkeypatch):
    one, other = (write_video(tmp_path / f'{name}.mp4', images, TIMES) for name, images in (
        ('a', moving(8)), ('b', moving(16)[8:])))
    # As where the index of a long video comes first.
    monkeypatch.setattr(video_print, 'DATA_FROM', 4)
    monkeypatch.setattr(video_print, 'DATA_BYTES', 8)
    assert one.read_bytes()[4:12] == other.read_bytes()[4:12]
    extract_frames([one, other], tmp_path / 'out', settings=EXACT, progress=False)
    assert [row.bag for row in kept(tmp_path / 'out')] == ['a.mp4'] * 8 + ['b.mp4'] * 8


def test_videos_that_begin_alike_but_have_other_bytes_are_two(tmp_path):
    found = VideoPrint(['x', 'y', 'z'], 'data')
    assert str(found) == '3:z:data'
    for known in ('1:x:', '2:y:data', '3:z:data'):
        assert found.continues(known)
    for known in ('2:y:other', '2:z:data', '4:z:data', '0::', '/photos', '2', ''):
        assert not found.continues(known)
    assert not VideoPrint(['x', 'y'], '').continues('1:x:data')


def test_photos_that_come_later_are_added(folder, tmp_path):
    late = (folder / 'b.jpg').rename(tmp_path / 'late.jpg')
    extract_frames([folder], tmp_path / 'out', progress=False)
    late.rename(folder / 'b.jpg')
    report = extract_frames([folder], tmp_path / 'out', progress=False)
    assert report.known == 3
    assert sorted(row.file for row in kept(tmp_path / 'out')) == [
        f'photos-{name}.jpg' for name in 'abcd']


def test_photos_are_known_by_their_content_and_not_by_their_times(folder, tmp_path):
    out = tmp_path / 'out'
    extract_frames([folder], out, progress=False)
    before = everything(out)
    for number, path in enumerate(sorted(folder.iterdir())):
        os.utime(path, ns=(number, number))
    assert extract_frames([folder], out, progress=False).known == 4
    assert everything(out) == before
    one = (folder / 'a.jpg').stat()
    (folder / 'a.jpg').write_bytes((folder / 'd.PNG').read_bytes())
    os.utime(folder / 'a.jpg', ns=(one.st_atime_ns, one.st_mtime_ns))
    assert extract_frames([folder], out, progress=False).known == 3
    assert 'a.jpg' in [row.topic for row in read_manifest(out)[4:]]


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_a_folder_without_a_readable_image_is_an_error(tmp_path, capsys, content):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('a.jpg', 'b.png'):
        (folder / name).write_bytes(content)
    assert extract([folder], tmp_path / 'new' / 'out') == 1
    told = capsys.readouterr()
    assert 'univseg frames: photos: none of its 2 images can be read' in told.err
    assert told.out.count('a.jpg: ') == 1
    assert 'manifest.csv' not in told.out
    assert not (tmp_path / 'new').exists()


def test_of_sources_that_are_all_bad_a_folder_that_was_there_stays(folder, tmp_path):
    out, nowhere = tmp_path / 'out', tmp_path / 'nowhere'
    out.mkdir()
    assert extract([nowhere], out) == 1
    assert read_manifest(out) == []
    assert extract([folder], out) == 0
    before = everything(out)
    assert extract([nowhere], out) == 1
    assert everything(out) == before


def test_a_new_folder_with_a_frame_stays_whatever_fails(folder, tmp_path, monkeypatch):
    """A frame without a row, as of a disk that is full by then."""
    def fail(manifest, row):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Manifest, 'append', fail)
    assert extract([folder], tmp_path / 'out') == 1
    assert (tmp_path / 'out' / 'photos-a.jpg').exists()
    assert (tmp_path / 'out' / MANIFEST).exists()


def test_who_waits_for_a_folder_that_goes_makes_it_anew(tmp_path, monkeypatch):
    folder, lock, waited = tmp_path / 'new', fcntl.lockf, []

    def wait(file, how):  # for a process that then removes the folder
        if not waited:
            shutil.rmtree(folder)
        waited.append(folder)
        lock(file, how)

    monkeypatch.setattr(fcntl, 'lockf', wait)
    with claimed(folder):
        assert (folder / LOCK).exists()
    assert len(waited) == 2


def test_a_picture_larger_than_the_limit(folder, video, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', str(48 * 32 - 1))
    assert extract([folder, video], tmp_path / 'out') == 1
    told = capsys.readouterr()
    assert 'photos: kept 0 of 4 frames; 4 unreadable' in told.out
    assert f'{video}: pictures of 6144 pixels, more than 1535 pixels' in told.err


def test_no_file_of_others_is_written_over(folder, tmp_path, capsys):
    (folder / 'photos-a.jpg').write_bytes((folder / 'b.jpg').read_bytes())
    before = everything(folder)
    for out in (folder, tmp_path / 'photos' / '..' / 'photos'):
        assert extract([folder], out) == 1
        assert f'{folder}: frames are written into {out}' in capsys.readouterr().err
    assert {name: everything(folder)[name] for name in before} == before
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'photos-a.jpg').write_text('mine')
    (out / 'photos-b.jpg').symlink_to(tmp_path / 'nowhere')
    # As a call leaves it that was killed before it wrote the row.
    (out / 'photos-d.jpg').write_bytes(b'')
    (out / 'photos-photos-a.jpg').write_bytes((folder / 'b.jpg').read_bytes())
    assert extract([folder], out, '--duplicates', 'keep') == 0
    assert [row.file for row in kept(out)] == [
        'photos-a-2.jpg', 'photos-b-2.jpg', 'photos-c.jpg', 'photos-d.jpg', 'photos-photos-a.jpg']
    assert (out / 'photos-a.jpg').read_text() == 'mine'
    assert (out / 'photos-b.jpg').is_symlink()


@pytest.mark.parametrize('content', ['{"theirs": 1}', '[1]', 'x'])
def test_settings_of_others_stay(video, tmp_path, capsys, content):
    (tmp_path / 'settings.json').write_text(content)
    assert extract([video], tmp_path) == 1
    assert f'{tmp_path / "settings.json"}: damaged, or not of univseg frames: ' in (
        capsys.readouterr().err)
    assert (tmp_path / 'settings.json').read_text() == content


def test_names_of_videos(video, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    video = video.rename(tmp_path / '2026-11-30T14:05:00.mp4')
    assert extract([video.name], 'out') == 0
    assert len(kept(tmp_path / 'out')) == 8
    try:
        bad = video.rename(os.fsdecode(os.fsencode(tmp_path) + b'/a\xff.mp4'))
    except OSError:
        pytest.skip('this disk has no such names')
    assert extract([bad], 'out') == 1
    assert r'a\xff.mp4: its name is no text in UTF-8; rename it' in capsys.readouterr().err
