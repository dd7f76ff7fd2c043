"""`univseg frames` of bags whose topics hold packets of a video."""

import re

from bag_files import BEGIN, compressed, jpeg, pictures, STEP, write_bag
import numpy as np
import pytest
from univseg_core.cli import main
from univseg_core.datasets import frames
from univseg_core.datasets.frames import extract_frames, ExtractionSettings
from univseg_core.datasets.manifest import read_manifest
from univseg_core.pictures.bitstreams import FrameNumbers, has_keyframe, ParameterSets
from univseg_core.pictures.images import read_image
from univseg_core.pictures.packet_decoder import (
    AFTER_DAMAGE,
    DECODERS,
    NO_KEYFRAME,
    NO_PICTURE,
    PacketDecoder,
    PARAMETERS_ALONE,
    picture_of,
)
from univseg_core.pictures.slices import SliceStarts
from univseg_core.pictures.video import codec_of
from video_streams import (
    COMPRESSED,
    encoded,
    FFMPEG,
    FOXGLOVE,
    moving,
    number_of,
    reference,
    write_packets,
)

EXACT = ExtractionSettings(codec='png', duplicate_bits=None)


@pytest.fixture(scope='module')
def reordered():
    """Return eighteen pictures, and the packets of them with B-frames, a keyframe every six."""
    images = moving(18)
    return images, encoded(images, b_frames=2)


@pytest.fixture(scope='module')
def plain():
    """Return the packets of eighteen pictures without B-frames, a keyframe every six."""
    return encoded(moving(18))


def extract(bag, out, *arguments):
    """Run the command; return its exit status."""
    return main(['frames', str(bag), '--out', str(out), *arguments])


def kept(folder):
    """Return the numbers of the pictures that were kept, in order."""
    return [number_of(row) for row in read_manifest(folder) if row.outcome == 'kept']


def assert_frames_are(folder, expected):
    """Hold the frames of a folder against {number: BGR picture}."""
    rows = [row for row in read_manifest(folder) if row.outcome == 'kept']
    assert [number_of(row) for row in rows] == list(expected)
    for row in rows:
        np.testing.assert_array_equal(read_image(folder / row.file)[..., ::-1],
                                      expected[number_of(row)])


@pytest.mark.parametrize(('codec', 'type_', 'format_'), [
    ('h264', FFMPEG, 'h264'), ('h264', FFMPEG, 'libx264'),
    ('h264', FFMPEG, 'h264;yuv420p;bgr8;bgr8'), ('h264', FOXGLOVE, 'h264'),
    ('h264', COMPRESSED, 'h264'), ('h264', COMPRESSED, ''), ('h264', COMPRESSED, 'rgb8; H.264'),
    ('hevc', FFMPEG, 'hevc_nvenc'), ('hevc', FOXGLOVE, 'h265'), ('hevc', COMPRESSED, ''),
    ('av1', FOXGLOVE, 'av1'), ('vp9', FOXGLOVE, 'vp9')])
def test_packets_give_the_pictures_that_pyav_decodes(tmp_path, codec, type_, format_):
    images = moving(8)
    packets = encoded(images, codec)
    bag = write_packets(tmp_path / 'bag', packets, type_, format_)
    report = extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    assert not report.problems
    expected = reference(packets, codec)
    assert_frames_are(tmp_path / 'out', dict(enumerate(expected)))
    for picture, image in zip(expected, images, strict=True):
        assert np.abs(picture.astype(int) - image).mean() < 20


def test_a_stamp_goes_with_its_own_picture_where_they_are_reordered(tmp_path, reordered):
    images, packets = reordered
    order = [number for number, _ in packets]
    assert order != sorted(order)
    bag = write_packets(tmp_path / 'bag', packets)
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    assert_frames_are(tmp_path / 'out', dict(enumerate(reference(packets))))
    rows = read_manifest(tmp_path / 'out')
    assert [row.time for row in rows] == [BEGIN + STEP * order.index(number)
                                          for number in range(18)]
    for row, image in zip(rows, images, strict=True):
        away = [np.abs(read_image(tmp_path / 'out' / row.file)[..., ::-1].astype(int)
                       - other).mean() for other in images]
        assert np.argmin(away) == number_of(row)
        assert images[np.argmin(away)] is image


@pytest.mark.parametrize(('codec', 'lost'), [('h264', 3), ('hevc', 3), ('h264', 8)])
def test_behind_a_lost_packet_a_keyframe_is_awaited(tmp_path, codec, lost):
    """H.264's decoder would go on with smears, and say nothing."""
    packets = encoded(moving(18), codec)
    whole = reference(packets, codec)
    bag = write_packets(tmp_path / 'bag', packets[:lost] + packets[lost + 1:],
                        format_=codec)
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    next_key = 6 * (lost // 6 + 1)
    assert_frames_are(tmp_path / 'out', {number: whole[number] for number in range(18)
                                         if not lost <= number < next_key})


@pytest.mark.parametrize(('codec', 'reorder'), [('h264', 0), ('h264', 2), ('hevc', 0)])
def test_behind_a_damaged_packet_a_keyframe_is_awaited(tmp_path, codec, reorder):
    packets = encoded(moving(18, (240, 320)), codec, b_frames=reorder)
    whole = reference(packets, codec)
    number, data = packets[7]
    damaged = [*packets[:7], (number, data[:len(data) // 2]), *packets[8:]]
    bag = write_packets(tmp_path / 'bag', damaged, format_=codec)
    assert extract(bag, tmp_path / 'out', '--format', 'png', '--duplicates', 'keep') == 0
    # FFmpeg's decoder drops the picture that it was about to show, here that of the fifth packet.
    lost = {number for number, _ in packets[7:12] + (packets[4:5] if reorder else [])}
    assert_frames_are(tmp_path / 'out', {number: whole[number] for number in range(18)
                                         if number not in lost})
    why = [row.outcome for row in read_manifest(tmp_path / 'out') if row.outcome != 'kept']
    assert [sum(text in each for each in why)
            for text in ('cannot be decoded', AFTER_DAMAGE, NO_PICTURE)] == [1, 4, len(lost) - 5]


def test_a_stream_that_begins_in_the_midst_gives_nothing_until_its_keyframe(tmp_path, reordered):
    whole = reference(reordered[1])
    bag = write_packets(tmp_path / 'bag', reordered[1][2:])
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    assert_frames_are(tmp_path / 'out', {number: whole[number] for number in range(6, 18)})
    rows = read_manifest(tmp_path / 'out')
    assert len(rows) == 16
    assert all(row.outcome == f'unreadable: {NO_KEYFRAME}' for row in rows[:4])


@pytest.mark.parametrize(('begin', 'lost', 'start'), [(5, None, 0), (0, 5, 0), (0, None, 1.2)])
def test_an_open_gop_loses_what_is_shown_before_its_keyframe_alone(tmp_path, begin, lost, start):
    packets = encoded(moving(30), b_frames=2, x264=(
        'open-gop=1:keyint=6:bframes=2:b-adapt=0:scenecut=0:repeat-headers=1'))
    order = [number for number, _ in packets]
    # Behind the keyframe that is shown as the seventh, two are sent that are shown before it.
    assert order[:8] == [0, 3, 1, 2, 6, 4, 5, 9]
    whole = reference(packets)
    sent = [each for at, each in enumerate(packets) if at >= begin and at != lost]
    bag = write_packets(tmp_path / 'bag', sent)
    extract_frames([bag], tmp_path / 'out', progress=False, settings=ExtractionSettings(
        codec='png', duplicate_bits=None, start=start))
    rows = read_manifest(tmp_path / 'out')
    assert_frames_are(tmp_path / 'out', {number_of(row): whole[number_of(row)] for row in rows
                                         if row.outcome == 'kept'})
    # Each time, 10 and 11 come behind the next keyframe, that of 12, and are shown before it.
    before = [0, 1, 2, 3, 6] if lost else []
    assert kept(tmp_path / 'out') == [*before, *range(13 if start else 12, 30)]


def test_packets_without_any_keyframe_are_an_error(tmp_path, plain, capsys):
    bag = write_packets(tmp_path / 'bag', plain[1:6])
    assert extract(bag, tmp_path / 'out') == 1
    told = capsys.readouterr()
    assert f'{bag}: /video: no picture in its 5 packets; expected a keyframe' in told.err
    assert f'5 unreadable (the first: {NO_KEYFRAME})' in told.out


def test_a_beginning_is_decoded_from_the_keyframe_before_it(tmp_path, plain, monkeypatch):
    bag = write_packets(tmp_path / 'bag', plain)
    decoded = []
    decode = PacketDecoder.decode
    monkeypatch.setattr(PacketDecoder, 'decode', lambda self, number, data: (
        decoded.append(data), decode(self, number, data))[1])
    whole = reference(plain)
    extract_frames([bag], tmp_path / 'out', progress=False, settings=ExtractionSettings(
        start=0.9, end=1.4, codec='png', duplicate_bits=None))
    assert_frames_are(tmp_path / 'out', {number: whole[number] for number in range(9, 14)})
    assert decoded == [data for _, data in plain[6:14]]


def test_every_and_min_interval_choose_of_the_decoded_pictures(tmp_path, reordered):
    whole = reference(reordered[1])
    bag = write_packets(tmp_path / 'bag', reordered[1])
    for name, settings, numbers in (
            ('a', {'every': 5}, (0, 5, 10, 15)), ('b', {'min_interval': 0.7}, (0, 7, 14))):
        extract_frames([bag], tmp_path / name, progress=False, settings=ExtractionSettings(
            codec='png', duplicate_bits=None, **settings))
        assert_frames_are(tmp_path / name, {number: whole[number] for number in numbers})


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_parameters_may_stand_at_the_beginning_of_a_stream_alone(tmp_path, codec):
    packets = encoded(moving(18), codec)
    whole = reference(packets, codec)
    is_parameter = {'h264': lambda unit: unit[0] & 0x1f in (7, 8),
                    'hevc': lambda unit: unit[0] >> 1 & 0x3f in (32, 33, 34)}[codec]
    bare = [(number, b''.join(b'\0\0\1' + unit for unit in re.split(b'\0?\0\0\1', data)[1:]
                              if not number or not is_parameter(unit)))
            for number, data in packets]
    assert len(bare[6][1]) < len(packets[6][1])
    number, data = bare[3]
    damaged = [*bare[:3], (number, data[:1]), *bare[4:]]
    for name, sent, start, expected in (('a', damaged, 0, [0, 1, 2, *range(6, 18)]),
                                        ('b', bare, 1.0, range(10, 18))):
        bag = write_packets(tmp_path / f'bag_{name}', sent, format_=codec)
        extract_frames([bag], tmp_path / name, progress=False, settings=ExtractionSettings(
            codec='png', duplicate_bits=None, start=start))
        assert_frames_are(tmp_path / name, {number: whole[number] for number in expected})


@pytest.mark.parametrize('codec', ['h264', 'hevc'])
def test_parameters_may_stand_in_packets_of_their_own(tmp_path, codec):
    packets = encoded(moving(18), codec)
    whole = reference(packets, codec)
    is_parameter = {'h264': lambda unit: unit[0] & 0x1f in (7, 8),
                    'hevc': lambda unit: unit[0] >> 1 & 0x3f in (32, 33, 34)}[codec]
    sent, alone = [], 0
    for number, data in packets:
        found = [b'\0\0\1' + unit for unit in re.split(b'\0?\0\0\1', data)[1:]]
        if number:  # those of H.264's sequence stand at the beginning alone
            found = [unit for unit in found if codec == 'hevc' or unit[3] & 0x1f != 7]
        for unit in (unit for unit in found if is_parameter(unit[3:])):
            sent.append((100, unit))
            alone += 1
        sent.append((number, b''.join(unit for unit in found if not is_parameter(unit[3:]))))
    lost = next(at for at, (number, _) in enumerate(sent) if number == 3)
    bag = write_packets(tmp_path / 'bag', sent[:lost] + sent[lost + 1:], format_=codec)
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    assert_frames_are(tmp_path / 'out', {number: whole[number]
                                         for number in (0, 1, 2, *range(6, 18))})
    outcomes = [row.outcome for row in read_manifest(tmp_path / 'out')]
    assert outcomes.count(f'unreadable: {PARAMETERS_ALONE}') == alone >= 4


@pytest.mark.parametrize(('number', 'missing', 'is_noticed'), [
    (1, 0, True), (2, 0, True), (2, 1, True), (2, 2, True),
    (1, 2, False)])  # when only a keyframe is known, as docs/frames.md says
def test_a_picture_without_a_slice_is_damaged(number, missing, is_noticed):
    packets = encoded(moving(6), x264='slices=3')
    units = re.split(b'\0?\0\0\1', packets[number][1])[1:]
    assert [unit[0] & 0x1f for unit in units] == [1, 1, 1]
    del units[missing]
    packets[number] = number, b''.join(b'\0\0\1' + unit for unit in units)
    decoder, outcomes = PacketDecoder('h264'), {}
    for at, data in packets:
        outcomes |= decoder.decode(at, data)
    assert (outcomes[number] == 'a slice of it is missing') is is_noticed
    assert [isinstance(outcomes[at], str) for at in range(6)] == [
        is_noticed and at >= number for at in range(6)]


def test_an_encoder_that_cuts_pictures_as_it_likes_is_left_alone():
    """Slices of a type, each told by its first macroblock in Exp-Golomb code: 0 is 1, 1 is 010."""
    def packet(type_, *starts):
        return b''.join(bytes([0, 0, 1, type_, {0: 0x80, 1: 0x40, 2: 0x60}[start]])
                        for start in starts)

    slices = SliceStarts()
    for sent in ((5, 0, 1, 2), (5, 0, 1, 2), (1, 0, 1), (1, 0, 1, 2), (1, 0), (5, 0)):
        assert slices.are_whole(packet(*sent))
    assert not slices.are_whole(packet(1, 1, 2))
    # Another sequence begins anew.
    assert slices.are_whole(b'\0\0\1\x67\x42' + packet(5, 0, 1, 2))
    assert slices.are_whole(packet(1, 0, 1, 2))
    assert not slices.are_whole(packet(5, 0, 2))
    assert slices.are_whole(packet(1, 0, 1, 2))


def test_parameters_are_kept_by_their_kind_and_id():
    sequences, pictures_ = b'\x67\x42\0\x0a\x80', [b'\x68\xc0', b'\x68\x50']  # ids 0; 0, 1
    found = ParameterSets('h264')
    for unit in (pictures_[1], sequences, pictures_[0], b'\x68'):
        found.learn(b'\0\0\1' + unit)
    assert bytes(found) == b''.join(b'\0\0\1' + unit for unit in (sequences, *pictures_))
    found.learn(b'\0\0\1\x67\x42\0\x14\x80')  # another sequence, with whose id the others go
    assert bytes(found) == b'\0\0\1\x67\x42\0\x14\x80'
    assert not bytes(ParameterSets('vp9'))


def test_a_size_that_changes_midway(tmp_path):
    small = encoded(moving(6), b_frames=2)
    large = [(number + 6, data) for number, data in encoded(moving(6, (80, 128)), b_frames=2)]
    bag = write_packets(tmp_path / 'bag', small + large)
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    assert_frames_are(tmp_path / 'out', dict(enumerate(reference(small) + reference(large))))


def test_the_limit_of_pixels_holds_before_anything_is_decoded(tmp_path, plain, monkeypatch):
    bag = write_packets(tmp_path / 'bag', plain[:6])
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', str(64 * 96))
    extract_frames([bag], tmp_path / 'a', settings=EXACT, progress=False)
    assert kept(tmp_path / 'a') == list(range(6))
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', str(64 * 96 - 1))
    report = extract_frames([bag], tmp_path / 'b', settings=EXACT, progress=False)
    assert 'the first: 96x64 pixels, more than 6143 pixels, which UNIVSEG_MAX_PIXELS' in (
        report.text())
    assert not (tmp_path / 'b').exists()
    monkeypatch.setenv('UNIVSEG_MAX_PIXELS', '100')  # which the decoder itself minds
    report = extract_frames([bag], tmp_path / 'c', settings=EXACT, progress=False)
    assert 'cannot be decoded' in report.text()
    assert 'or of more than 100 pixels' in report.text()
    assert 'no picture in its 6 packets' in report.problems[0]


@pytest.mark.parametrize('format_', ['theora', 'jpeg2000;gray', 'x' * 200])
def test_an_encoding_that_nobody_knows(tmp_path, plain, capsys, format_):
    bag = write_packets(tmp_path / 'bag', plain[:3], format_=format_)
    assert extract(bag, tmp_path / 'out') == 1
    error = capsys.readouterr().err
    assert f"{bag}: /video: a packet of a video of format '{format_[:60]}" in error
    assert 'expected one of h264, hevc, av1, vp9' in error
    assert not (tmp_path / 'out').exists()


def test_a_decoder_that_pyav_was_built_without(tmp_path, plain, monkeypatch):
    monkeypatch.setitem(DECODERS, 'h264', 'none')
    bag = write_packets(tmp_path / 'bag', plain[:3])
    report = extract_frames([bag], tmp_path / 'out', progress=False)
    assert '3 unreadable (the first: this PyAV was built without a decoder of h264 (none))' in (
        report.text())
    assert 'no picture in its 3 packets' in report.problems[0]


def test_a_codec_that_changes_midway(tmp_path, plain):
    other = encoded(moving(6), 'hevc')
    bag = write_packets(tmp_path / 'bag', plain[:6])
    later = write_packets(tmp_path / 'later', [(number + 6, data) for number, data in other],
                          format_='hevc')
    for file in later.glob('*.mcap'):
        file.rename(bag / 'z.mcap')
    extract_frames([bag], tmp_path / 'out', settings=EXACT, progress=False)
    assert_frames_are(tmp_path / 'out', dict(enumerate(
        reference(plain[:6]) + reference(other, 'hevc'))))


def test_a_topic_of_images_is_the_one_that_is_meant(tmp_path, plain):
    """What --topic leaves open does not depend on PyAV."""
    bag = write_bag(tmp_path / 'bag', {'/a/compressed': [compressed(0, jpeg(pictures(1)[0]))]})
    more = write_packets(tmp_path / 'more', plain)
    for file in more.glob('*.mcap'):
        file.rename(bag / 'z.mcap')
    report = extract_frames([bag], tmp_path / 'out', progress=False)
    assert list(report.counts) == [('bag', '/a/compressed')]
    report = extract_frames([bag], tmp_path / 'out', ['/none'], progress=False)
    assert ('its image topics: /a/compressed; of packets of a video: /video'
            in report.problems[0])


def test_an_interrupted_call_goes_on_and_another_changes_nothing(tmp_path, reordered,
                                                                 monkeypatch):
    bag = write_packets(tmp_path / 'bag', reordered[1])
    settings = ExtractionSettings(min_interval=0.3)
    extract_frames([bag], tmp_path / 'whole', settings=settings, progress=False)
    judge, count = frames.Judge.judge, iter(range(99))

    def interrupted(*arguments):
        if next(count) == 10:
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(frames.Judge, 'judge', interrupted)
    with pytest.raises(KeyboardInterrupt):
        extract_frames([bag], tmp_path / 'out', settings=settings, progress=False)
    monkeypatch.undo()
    for _ in range(2):
        report = extract_frames([bag], tmp_path / 'out', settings=settings, progress=False)
        assert {path.name: path.read_bytes() for path in (tmp_path / 'out').iterdir()} == {
            path.name: path.read_bytes() for path in (tmp_path / 'whole').iterdir()}
    assert report.known == 18


def test_what_a_decoder_keeps_is_bounded(plain):
    """A packet that gives nothing is decided by and by, and not at the end."""
    decoder, undecided = PacketDecoder('h264'), set()
    for number in range(200):
        undecided.add(number)
        data = plain[0][1] if not number else b'\0\0\0\1\x09\x10'  # a delimiter alone
        undecided -= {each for each, _ in decoder.decode(number, data)}
        assert len(undecided) <= 65
    assert {number for number, _ in decoder.finish()} == undecided


@pytest.mark.parametrize('codec', ['h264', 'hevc', 'av1', 'vp9'])
def test_keyframes_are_known_without_decoding(codec):
    packets = encoded(moving(13), codec)
    found = [has_keyframe(codec, data) for _, data in packets]
    assert found == [number % 6 == 0 for number in range(13)]
    assert not has_keyframe(codec, b'')
    assert not has_keyframe(codec, b'\xff' * 50)


def test_numbers_tell_of_each_reference_that_is_lost():
    packets = [data for _, data in encoded(moving(12))]
    for lost in range(1, 11):
        numbers = FrameNumbers()
        found = [numbers.follows(data) for data in packets[:lost] + packets[lost + 1:]]
        # The sixth is followed by a keyframe, which needs none before it.
        assert found == [at != lost or lost == 5 for at in range(11)]


def test_numbers_of_damaged_packets_raise_nothing(plain):
    random = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(plain[0][1][:80])
        for at in random.integers(0, 80, 4):
            data[at] = random.integers(0, 256)
        numbers = FrameNumbers()
        assert numbers.follows(bytes(data)) in (True, False)
        has_keyframe('av1', bytes(data))


@pytest.mark.parametrize('codec', ['h264', 'hevc', 'av1', 'vp9'])
def test_each_packet_has_one_outcome_whatever_is_in_it(codec):
    packets = [data for _, data in encoded(moving(12), codec)]
    random = np.random.default_rng(0)
    for _ in range(5):
        damaged = [*packets, *packets]
        for at in random.integers(0, 24, 4):
            data = bytearray(damaged[at])
            for where in random.integers(0, len(data), random.integers(0, 9)):
                data[where] = random.integers(0, 256)
            damaged[at] = bytes(data[:random.integers(0, len(data) + 1)])
        damaged[6] = b''
        damaged[18:] = packets[6:]
        decoder = PacketDecoder(codec)
        outcomes = [outcome for number, data in enumerate(damaged)
                    for outcome in decoder.decode(number, data)]
        outcomes += decoder.finish()
        assert sorted(number for number, _ in outcomes) == list(range(24))
        assert dict(outcomes)[6] == 'an empty packet'
        # However it was damaged, it goes on with the next keyframe that is whole.
        assert not any(isinstance(dict(outcomes)[number], str) for number in range(18, 24))
        for _, outcome in outcomes:
            if not isinstance(outcome, str):
                assert picture_of(outcome).shape[2] == 3


class Said:
    """A CompressedImage of a format."""

    def __init__(self, format_, data=b''):
        self.format, self.data = format_, data


@pytest.mark.parametrize(('format_', 'data', 'codec'), [
    ('h264', b'', 'h264'), ('H.265', b'', 'hevc'), ('hevc', b'', 'hevc'), ('AV1', b'', 'av1'),
    ('avc1', b'', 'h264'), ('libx265', b'', 'hevc'), ('vp9', b'', 'vp9'), ('mpeg4', b'', ''),
    ('', b'\0\0\1\x67', 'h264'), ('', b'\0\0\0\1\x09\x10', 'h264'), ('', b'\0\0\1\x47', 'h264'),
    ('', b'\0\0\0\1\x40\x01', 'hevc'), ('', b'\0\0\1\x46\x01', 'hevc'), ('', b'\0\0\1\x41', ''),
    ('', b'', '')])
def test_which_codec_a_packet_is_of(format_, data, codec):
    assert codec_of(Said(format_, data)) == codec
