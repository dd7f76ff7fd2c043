"""`univseg frames`: which images of bags become frames, and their manifest."""

import io
import json
import os
import sys

from bag_files import (
    BEGIN,
    compressed,
    header,
    jpeg,
    pictures,
    raw,
    serialised,
    STEP,
    storage_file,
    write_bag,
)
import cv2
import numpy as np
from PIL import Image
import pytest
from rosbags.rosbag2 import Writer
from univseg_core.cli import main
from univseg_core.datasets import frames
from univseg_core.datasets.frames import extract_frames, ExtractionSettings
from univseg_core.datasets.manifest import MANIFEST, read_manifest
from univseg_core.pictures.images import read_image
from univseg_core.pictures.likeness import dhash

TOPIC, COMPRESSED = '/camera/image', '/camera/image/compressed'
EXACT = ExtractionSettings(codec='png')


@pytest.fixture
def bag(tmp_path):
    """Return a bag of six different raw images, and those as JPEG."""
    images = pictures(6)
    return write_bag(tmp_path / 'drive', {
        TOPIC: [raw(number, image) for number, image in enumerate(images)],
        COMPRESSED: [compressed(number, jpeg(image)) for number, image in enumerate(images)]})


def outcomes(folder):
    """Return what became of the messages, in order."""
    return [row.outcome for row in read_manifest(folder)]


@pytest.mark.parametrize('settings', [ExtractionSettings(), ExtractionSettings(size=24),
                                      ExtractionSettings(codec='png')])
def test_a_frame_is_read_upright_whatever_was_done_to_it(tmp_path, settings):
    picture = pictures(1)[0][..., :1].repeat(3, axis=2)  # grey: JPEG keeps colours half as fine
    exif = (b'Exif\0\0MM\0*\0\0\0\x08\0\x01' + b'\x01\x12\0\x03\0\0\0\x01\0\x06\0\0' + bytes(4))
    data = jpeg(picture)
    data = data[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + data[2:]
    bag = write_bag(tmp_path / 'bag', {COMPRESSED: [compressed(0, data)]})
    extract_frames([bag], tmp_path / 'out', settings=settings)
    (row,) = read_manifest(tmp_path / 'out')
    frame = read_image(tmp_path / 'out' / row.file)
    lies = cv2.imdecode(np.frombuffer(jpeg(picture), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    expected = cv2.resize(np.rot90(lies, -1), frame.shape[1::-1],
                          interpolation=cv2.INTER_AREA).astype(int)
    assert frame.shape == ((24, 16, 3) if settings.size else (48, 32, 3))
    assert np.abs(frame - expected).mean() < 12


def test_a_deep_picture_is_turned_upright_too(tmp_path):
    """One of 16 bits has to be encoded anew, without the EXIF data that said how it lies."""
    deep = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2570
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(deep).save(file, 'PNG', exif=exif)
    message = compressed(0, file.getvalue(), 'mono16; png')
    bag = write_bag(tmp_path / 'bag', {COMPRESSED: [message]})
    extract_frames([bag], tmp_path / 'out', settings=ExtractionSettings(codec='png'))
    (row,) = read_manifest(tmp_path / 'out')
    frame = read_image(tmp_path / 'out' / row.file)
    assert frame.shape == (6, 4, 3)
    assert (np.diff(frame[..., 0].astype(int), axis=0) > 0).all()
    assert (frame[0, :-1, 0] > frame[0, 1:, 0]).all()


def everything(folder):
    """Return the bytes and time of change of all files."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder.iterdir() if path.name != 'lock'}


def extract(bags, out, *arguments):
    """Run the command; return its exit status."""
    return main(['frames', *map(str, bags), '--out', str(out), *arguments])


def test_frames_their_names_and_manifest(bag, tmp_path, capsys):
    out = tmp_path / 'out'
    assert extract([bag], out, '--topic', TOPIC, '--format', 'png') == 0
    rows = read_manifest(out)
    assert [(row.bag, row.topic, row.time, row.stamp, row.width, row.height, row.outcome)
            for row in rows] == [
        ('drive', TOPIC, BEGIN + i * STEP, BEGIN + i * STEP + 5, 48, 32, 'kept')
        for i in range(6)]
    assert rows[0].file == 'camera-image-0000000100000000005.png'
    names = [row.file for row in rows]
    assert sorted(names) == names
    for row, picture in zip(rows, pictures(6), strict=True):
        assert np.array_equal(read_image(out / row.file), picture)
    assert 'kept 6 of 6' in capsys.readouterr().out
    assert extract([bag], out, '--topic', TOPIC, '--format', 'png', '--json') == 0
    assert json.loads(capsys.readouterr().out) == {
        'folder': str(out), 'known': 6, 'problems': [], 'notes': [], 'topics': [{
            'bag': 'drive', 'topic': TOPIC, 'messages': 6, 'kept': 6, 'outcomes': {'kept': 6},
            'first_unreadable': None}]}


@pytest.mark.parametrize('encoding', ['bgr8', 'rgb8', 'mono8', 'rgba8', 'rgb16'])
def test_encodings(tmp_path, encoding):
    (picture,) = pictures(1)
    grey = np.repeat(picture[..., 1:2], 3, axis=2)
    pixels = {'bgr8': np.ascontiguousarray(picture[..., ::-1]), 'rgb8': picture,
              'mono8': picture[..., 1].copy(), 'rgba8': np.dstack([picture, picture[..., 0]]),
              'rgb16': picture.astype(np.uint16) * 257}[encoding]
    bag = write_bag(tmp_path / 'bag', {TOPIC: [raw(0, pixels, encoding)]})
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    (row,) = read_manifest(tmp_path / 'out')
    found = read_image(tmp_path / 'out' / row.file)
    assert np.array_equal(found, grey if encoding == 'mono8' else picture)


def test_a_jpeg_stays_as_it_is_unless_it_is_shrunk(bag, tmp_path):
    extract_frames([bag], tmp_path / 'a', [COMPRESSED], ExtractionSettings(size=48),
                   progress=False)
    extract_frames([bag], tmp_path / 'b', [COMPRESSED], ExtractionSettings(size=24),
                   progress=False)
    first, *_ = read_manifest(tmp_path / 'a')
    assert (tmp_path / 'a' / first.file).read_bytes() == jpeg(pictures(1)[0])
    first, *_ = read_manifest(tmp_path / 'b')
    assert (first.width, first.height) == (24, 16)
    assert read_image(tmp_path / 'b' / first.file).shape == (16, 24, 3)


@pytest.mark.parametrize(('settings', 'kept'), [
    ({'every': 4}, [0, 4]), ({'min_interval': 0.2}, [0, 2, 4]),
    ({'start': 0.1, 'end': 0.35}, [1, 2, 3]), ({'every': 2, 'min_interval': 0.3}, [0, 4])])
def test_the_choice_by_number_and_time(bag, tmp_path, settings, kept):
    extract_frames([bag], tmp_path / 'out', [TOPIC], ExtractionSettings(**settings),
                   progress=False)
    assert [(row.time - BEGIN) // STEP for row in read_manifest(tmp_path / 'out')
            if row.outcome == 'kept'] == kept


@pytest.mark.parametrize(('bits', 'expected'), [
    (4, ['kept', 'duplicate', 'duplicate', 'kept', 'duplicate', 'kept']), (None, ['kept'] * 6)])
def test_near_duplicates(tmp_path, bits, expected):
    one, other = pictures(2, (90, 120))
    noisy = np.clip(one + np.random.default_rng(1).normal(0, 4, one.shape), 0, 255)
    series = [one, noisy.astype(np.uint8), one, other, other, one]
    bag = write_bag(tmp_path / 'bag', {TOPIC: [raw(i, image) for i, image in enumerate(series)]})
    extract_frames([bag], tmp_path / 'out', settings=ExtractionSettings(duplicate_bits=bits),
                   progress=False)
    assert outcomes(tmp_path / 'out') == expected


def test_dhash_compares_each_cell_with_its_right_neighbour():
    assert dhash(np.tile(np.arange(9, dtype=np.uint8), (8, 1))) == 2**64 - 1
    assert dhash(np.tile(np.arange(9, 0, -1, dtype=np.uint8), (8, 1))) == 0
    grey = np.zeros((8, 9), np.uint8)
    grey[0, 1] = 200
    assert dhash(grey) == 1 << 63


def test_a_second_call_changes_nothing(bag, tmp_path, capsys):
    out = tmp_path / 'out'
    arguments = ('--topic', TOPIC, '--topic', COMPRESSED, '--every', '2')
    extract([bag], out, *arguments)
    before = everything(out)
    assert extract([bag], out, *arguments) == 0
    assert everything(out) == before
    assert '12 of these images known' in capsys.readouterr().out


@pytest.mark.parametrize('failing', [0, 3, 5])
def test_an_interrupted_call_goes_on(bag, tmp_path, monkeypatch, failing):
    extract_frames([bag], tmp_path / 'whole', [TOPIC], ExtractionSettings(min_interval=0.2),
                   progress=False)
    judge = frames.Judge.judge
    count = iter(range(99))

    def interrupted(*arguments):
        if next(count) == failing:
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(frames.Judge, 'judge', interrupted)
    out = tmp_path / 'out'
    with pytest.raises(KeyboardInterrupt):
        extract_frames([bag], out, [TOPIC], ExtractionSettings(min_interval=0.2), progress=False)
    monkeypatch.undo()
    out.mkdir(exist_ok=True)  # gone with an interrupt before the first frame, not with a kill
    with (out / MANIFEST).open('a') as file:
        file.write('camera-image-00001,dri')  # a line that a kill cut off
    (out / '.camera.unfinished-x.jpg').touch()
    extract_frames([bag], out, [TOPIC], ExtractionSettings(min_interval=0.2), progress=False)
    assert {name: data for name, (data, _) in everything(out).items()} == {
        name: data for name, (data, _) in everything(tmp_path / 'whole').items()}


def test_a_frame_that_a_power_cut_left_empty_is_written_anew(bag, tmp_path):
    out = tmp_path / 'out'
    extract_frames([bag], out, [TOPIC], EXACT, progress=False)
    before = {name: data for name, (data, _) in everything(out).items()}
    empty, deleted, *_ = [row.file for row in read_manifest(out)]
    (out / empty).write_bytes(b'')
    (out / deleted).unlink()
    extract_frames([bag], out, [TOPIC], EXACT, progress=False)
    del before[deleted]  # by somebody who did not want it
    assert {name: data for name, (data, _) in everything(out).items()} == before


def test_a_full_disk_leaves_no_half_frame(bag, tmp_path, full_disk, capsys):
    big = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    bag = write_bag(tmp_path / 'bag', {TOPIC: [raw(0, pictures(1)[0]), raw(1, big)]})
    out = tmp_path / 'out'
    with full_disk():
        assert extract([bag], out, '--format', 'png') == 1
    assert f'{out}: cannot be written to: File too large' in capsys.readouterr().err
    assert outcomes(out) == ['kept']
    assert len(list(out.glob('*.png'))) == 1
    assert extract([bag], out, '--format', 'png') == 0
    assert outcomes(out) == ['kept', 'kept']


def test_other_settings_need_another_folder(bag, tmp_path, capsys):
    out = tmp_path / 'out'
    assert extract([bag], out) == 1  # nothing is extracted without a topic
    assert extract([bag], out, '--topic', TOPIC, '--every', '2') == 0
    assert extract([bag], out, '--topic', TOPIC) == 1
    assert 'holds frames of other settings (every: 2)' in capsys.readouterr().err


def test_messages_that_are_no_pictures_are_counted(tmp_path, capsys):
    (picture,) = pictures(1)
    empty = serialised('Image', header(1), 0, 0, 'rgb8', 0, 0, np.zeros(0, np.uint8))
    messages = [raw(0, picture), raw(1, picture, 'yuv9'), b'', empty, raw(3, picture)[:-9],
                raw(4, np.zeros((2, 2), np.float32), '32FC1'), raw(0, picture)[:40]]
    bag = write_bag(tmp_path / 'bag', {TOPIC: messages})
    assert extract([bag], tmp_path / 'out') == 0
    printed = capsys.readouterr().out
    assert 'kept 1 of 7 frames; 6 unreadable (the first: ' in printed
    assert 'yuv9' in printed
    found = outcomes(tmp_path / 'out')
    assert found[0] == 'kept'
    assert all(outcome.startswith('unreadable: ') for outcome in found[1:])


@pytest.mark.parametrize(('arguments', 'expected'), [
    ([], f'expected one image topic, or --topic; its image topics: {TOPIC}, {COMPRESSED}'),
    (['--topic', '/rear'], f'has no topic /rear; its image topics: {TOPIC}, {COMPRESSED}'),
    (['--topic', '/text'], '/text is of type std_msgs/msg/String; its image topics: ')])
def test_topics_that_cannot_be(tmp_path, capsys, arguments, expected):
    (picture,) = pictures(1)
    bag = write_bag(tmp_path / 'bag', {TOPIC: [raw(0, picture)], '/text': [b'\0\1\0\0'],
                                       COMPRESSED: [compressed(0, jpeg(picture))]})
    assert extract([bag], tmp_path / 'out', *arguments) == 1
    assert f'univseg frames: {bag}: {expected}' in capsys.readouterr().err


def test_a_topic_without_messages_is_told(tmp_path, capsys):
    bag = write_bag(tmp_path / 'bag', {TOPIC: [], '/text': [b'\0\1\0\0']})
    assert extract([bag], tmp_path / 'out') == 0
    assert f'bag {TOPIC}: kept 0 of 0 frames' in capsys.readouterr().out


def test_a_bag_whose_name_is_no_text(tmp_path, bag):
    bag = bag.rename(tmp_path / os.fsdecode(b'no\xdf'))
    assert extract([bag], tmp_path / 'out', '--topic', TOPIC) == 0
    assert {row.bag for row in read_manifest(tmp_path / 'out')} == {r'no\xdf'}


@pytest.mark.parametrize(('format_', 'data', 'codec'), [
    ('h264', b'\x11', 'h264'), ('H.265', b'', 'H.265'), ('h264_nvenc', b'', 'h264_nvenc'),
    ('libx264', b'', 'libx264'),
    ('bgr8; hevc compressed bgr8', b'', 'hevc'), ('', b'\0\0\0\1\x67', 'h264 or h265')])
def test_packets_of_a_video_are_told_in_a_sentence(tmp_path, capsys, monkeypatch, format_, data,
                                                   codec):
    monkeypatch.setitem(sys.modules, 'av', None)  # as where PyAV is not installed
    (picture,) = pictures(1)
    bag = write_bag(tmp_path / 'bag', {
        '/video/compressed': [compressed(number, data, format_) for number in range(3)],
        COMPRESSED: [compressed(0, jpeg(picture))]})
    assert extract([bag], tmp_path / 'out', '--topic', '/video/compressed') == 1
    told = capsys.readouterr()
    assert told.out == ''
    line = told.err.splitlines()[-1]  # behind the bar of progress
    assert line.startswith(f'univseg frames: {bag}: /video/compressed: a packet of a video (')
    assert codec in line
    assert 'republish' in line
    assert line.endswith("univseg frames decodes them where PyAV is installed (pip install "
                         "'av>=14')")
    # Another topic is read all the same.
    assert extract([bag], tmp_path / 'out', '--topic', '/video/compressed', '--topic',
                   COMPRESSED) == 1
    assert 'kept 1 of 1 frames' in capsys.readouterr().out


def test_topics_of_video_packets_are_listed_with_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'av', None)
    type_ = 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket'
    with Writer(tmp_path / 'bag', version=9) as writer:
        connection = writer.add_connection('/video', type_, msgdef='uint8[] data',
                                           rihs01='RIHS01_0')
        writer.write(connection, 1, b'\0\1\0\0')
    assert extract([tmp_path / 'bag'], tmp_path / 'out') == 1
    assert (f'its image topics: none; /video ({type_}) holds packets of a video: make images of '
            'it where it is played: ros2 run image_transport republish (in_transport ffmpeg,'
            ) in capsys.readouterr().err


def test_a_truncated_bag_gives_its_frames_and_then_an_error(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (3, 700, 700, 3), np.uint8)
    bag = write_bag(tmp_path / 'bag', {TOPIC: [raw(i, image) for i, image in enumerate(images)]})
    whole = write_bag(tmp_path / 'whole', {TOPIC: [raw(0, images[0])]})
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[:-2_000_000])
    for _ in range(2):
        assert extract([bag, whole], tmp_path / 'out') == 1
        assert f'univseg frames: {file}: broken at byte ' in capsys.readouterr().err
        assert [row.bag for row in read_manifest(tmp_path / 'out')] == ['bag', 'whole']


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_that_is_being_recorded_gives_its_further_frames_later(tmp_path, storage, capsys):
    messages = [raw(number, picture) for number, picture in enumerate(pictures(3, (400, 400)))]
    bag = write_bag(tmp_path / 'drive', {TOPIC: messages}, storage)
    (bag / 'metadata.yaml').unlink()
    file, out = storage_file(bag), tmp_path / 'out'
    finished = file.read_bytes()
    file.write_bytes(finished[:int(0.7 * len(finished))])
    assert extract([bag], out) == 1
    before = everything(out)
    kept = [row.file for row in read_manifest(out)]
    assert 0 < len(kept) < 3
    file.write_bytes(finished)
    assert extract([bag], out) == 0
    after = everything(out)
    assert all(after[name] == before[name] for name in kept)
    assert outcomes(out) == ['kept'] * 3
    extract_frames([bag], tmp_path / 'at_once', progress=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / 'at_once').iterdir()} == {
        name: data for name, (data, _) in after.items()} | {'lock': b''}


def test_a_resolution_that_changes_midway(tmp_path):
    sizes = [(32, 48), (32, 48), (64, 96), (90, 60)]
    images = [picture for size, picture in zip(
        sizes, pictures(4), strict=True) for picture in [cv2.resize(picture, size[::-1])]]
    bag = write_bag(tmp_path / 'bag', {TOPIC: [raw(i, image) for i, image in enumerate(images)]})
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    rows = read_manifest(tmp_path / 'out')
    assert [(row.height, row.width) for row in rows] == sizes
    for row, picture in zip(rows, images, strict=True):
        assert np.array_equal(read_image(tmp_path / 'out' / row.file), picture)


def test_one_stamp_for_several_frames(tmp_path):
    bag = write_bag(tmp_path / 'bag', {TOPIC: [raw(0, image) for image in pictures(3)]})
    for _ in range(2):
        extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    names = [row.file for row in read_manifest(tmp_path / 'out')]
    assert names == [f'camera-image-0000000100000000005{number}.png'
                     for number in ('', '-2', '-3')]
    for name, picture in zip(names, pictures(3), strict=True):
        assert np.array_equal(read_image(tmp_path / 'out' / name), picture)


@pytest.mark.parametrize('arguments', [
    ['--every', '0'], ['--start', '-1'], ['--duplicates', '64'], ['--quality', '0'],
    ['--format', 'gif'], ['--min-interval', 'nan'], ['--size', '0']])
def test_options_that_cannot_be(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        extract([tmp_path], tmp_path / 'out', *arguments)
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_quality(bag, tmp_path):
    for quality in (10, 95):
        extract_frames([bag], tmp_path / str(quality), [TOPIC],
                       ExtractionSettings(quality=quality), progress=False)
    first, *_ = read_manifest(tmp_path / '10')
    image = cv2.imread(str(tmp_path / '10' / first.file))
    assert image.shape == (32, 48, 3)
    assert (tmp_path / '10' / first.file).stat().st_size < (
        tmp_path / '95' / first.file).stat().st_size
