"""Masks that go to a person and come back: bytes of palette PNGs, colours, folders."""

import errno
from pathlib import Path
import shutil
import subprocess
import sys
import zlib

import cv2
import numpy as np
from PIL import Image
import pytest
from tiny_worlds import OUTDOOR, random_image, small_network
from univseg_core.cli import main
from univseg_core.data.folders import labelled_samples, read_sample
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.files import new_folder, temporary_folder
from univseg_core.images import ImageError, read_image, read_label, write_png
from univseg_core.inference import Segmenter
from univseg_core.label_import import import_labels
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.palette_png import decode_palette_png, write_palette_png
from univseg_core.prelabels import full_palette, labelmap, void_colour
from univseg_core.returned_labels import class_colours, LabelDecoder, read_labelmap

YARD = Domain.create('yard', ['grass', 'wall', 'car'],
                     [(0, 200, 0), (90, 90, 90), (200, 0, 10)])
MASK = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], np.uint8)
DECODER = LabelDecoder(YARD, class_colours(YARD))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / 'tiny.univseg'
    save_model(path, small_network(), ModelCard(image_size=64))
    return path


@pytest.fixture
def frames(tmp_path):
    for i, name in enumerate(('a.png', 'b.c.jpg', 'd.png')):
        path = tmp_path / 'frames' / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(random_image(24, 32, i)).save(path)
    return tmp_path / 'frames'


@pytest.fixture
def labels(tmp_path, frames):
    """Return a folder of label maps of YARD, of three kinds, for the frames."""
    generator = np.random.default_rng(0)
    folder = tmp_path / 'labels'
    masks = {stem: generator.choice(np.array([0, 1, 2, 255], np.uint8), (24, 32))
             for stem in ('a', 'b.c', 'd')}
    write_png(folder / 'a.png', masks['a'])
    write_palette_png(folder / 'b.c.png', masks['b.c'], full_palette(YARD))
    write_png(folder / 'd.png', YARD.colourise(masks['d']))
    return folder, masks


def listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir())


def run_import(labels, frames, out, decoder=DECODER):
    return import_labels(listed(labels), listed(frames), out, decoder, progress=False)


def contents(folder: Path) -> dict:
    """Return every file below a folder: its bytes and when it was written."""
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob('*')) if path.is_file()}


# Palette PNGs

def test_a_palette_png_has_the_bytes_that_its_format_asks_for(tmp_path):
    path = tmp_path / 'mask.png'
    write_palette_png(path, MASK, full_palette(YARD))
    data = path.read_bytes()
    assert data[:8] == b'\x89PNG\r\n\x1a\n'
    header = bytes([0, 0, 0, 4, 0, 0, 0, 2, 8, 3, 0, 0, 0])  # 4×2, 8 bits, indices
    assert data[8:33] == (b'\0\0\0\x0dIHDR' + header
                          + zlib.crc32(b'IHDR' + header).to_bytes(4, 'big'))
    assert data[33:41] == b'\0\0\x03\0PLTE'
    assert data[41:53] == bytes([0, 200, 0, 90, 90, 90, 200, 0, 10, 0, 0, 0])
    assert data[53:41 + 768] == bytes(768 - 12)
    assert data[-12:-8] == bytes(4)
    assert data[-8:-4] == b'IEND'


def test_any_reader_sees_indices_and_colours(tmp_path):
    path = tmp_path / 'mask.png'
    write_palette_png(path, MASK, full_palette(YARD))
    with Image.open(path) as image:
        image.load()  # every checksum is right
        assert image.mode == 'P'
        np.testing.assert_array_equal(np.array(image), MASK)
        np.testing.assert_array_equal(np.array(image.convert('RGB')), YARD.colourise(MASK))
    np.testing.assert_array_equal(read_image(path), YARD.colourise(MASK))  # OpenCV's
    indices, palette = decode_palette_png(path.read_bytes())
    np.testing.assert_array_equal(indices, MASK)
    assert palette.tolist() == [list(colour) for colour in full_palette(YARD)]


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
@pytest.mark.parametrize('width', [1, 7, 16])
def test_palettes_of_fewer_bits_are_read(tmp_path, bits, width):
    mask = np.random.default_rng(0).integers(0, 2 ** bits, (5, width), np.uint8)
    image = Image.frombytes('P', mask.shape[::-1], mask.tobytes())
    image.putpalette([value for i in range(2 ** bits) for value in (i, 255 - i, 7)])
    image.save(tmp_path / 'mask.png', bits=bits)
    data = (tmp_path / 'mask.png').read_bytes()
    assert data[24] == bits
    indices, palette = decode_palette_png(data)
    np.testing.assert_array_equal(indices, mask)
    assert palette[1].tolist() == [1, 254, 7]


def test_other_files_have_no_palette(tmp_path):
    write_png(tmp_path / 'grey.png', MASK)
    write_png(tmp_path / 'colours.png', YARD.colourise(MASK))
    for name in ('grey.png', 'colours.png'):
        assert decode_palette_png((tmp_path / name).read_bytes()) is None
    assert decode_palette_png(b'no image') is None


def test_damaged_palette_pngs_are_told(tmp_path):
    path = tmp_path / 'mask.png'
    write_palette_png(path, MASK, full_palette(YARD))
    data = path.read_bytes()
    with pytest.raises(ImageError, match='a truncated PNG'):
        decode_palette_png(data[:-20])
    colours = b'PLTE' + bytes(6)  # two of them
    short = (data[:33] + (6).to_bytes(4, 'big') + colours + zlib.crc32(colours).to_bytes(4, 'big')
             + data[33 + 12 + 768:])
    with pytest.raises(ImageError, match='index 255 of a palette of 2'):
        decode_palette_png(short)
    place = data.index(b'IDAT')
    with pytest.raises(ImageError, match='not a readable image'):
        decode_palette_png(data[:place + 4] + bytes(8) + data[place + 12:])


# What colours mean

@pytest.mark.parametrize(('palette', 'void'), [
    ([(1, 1, 1), (255, 255, 255)], (0, 0, 0)),
    ([(0, 0, 0), (1, 1, 1)], (255, 255, 255)),
    ([(0, 0, 0), (255, 255, 255)], (255, 0, 255)),
])
def test_void_is_black_unless_a_class_is(palette, void):
    domain = Domain.create('a', ['x', 'y'], palette)
    assert void_colour(domain) == void
    assert full_palette(domain) == [*palette, *[void] * 254]
    assert class_colours(domain) == {palette[0]: 0, palette[1]: 1, void: 255}


def test_a_void_colour_may_be_given_but_not_a_class_s_own():
    assert class_colours(YARD, (1, 2, 3))[1, 2, 3] == 255
    assert (0, 0, 0) not in class_colours(YARD, (1, 2, 3))
    with pytest.raises(UnivsegError, match=r'\(90, 90, 90\), is that of a class of yard'):
        class_colours(YARD, (90, 90, 90))


def test_a_labelmap_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / 'labelmap.txt'
    path.write_text(labelmap(YARD))
    assert path.read_text().splitlines()[:2] == ['background:0,0,0::', 'grass:0,200,0::']
    assert class_colours(YARD, named=read_labelmap(path)) == class_colours(YARD)
    path.write_text('# label:color_rgb:parts:actions\n\nwall:1,2,3::\nbackground:9,9,9::\n')
    assert class_colours(YARD, named=read_labelmap(path)) == {(1, 2, 3): 1, (9, 9, 9): 255}
    path.write_text('roof:1,2,3::\n')
    with pytest.raises(UnivsegError, match='names roof, which are no classes of yard: grass'):
        class_colours(YARD, named=read_labelmap(path))


@pytest.mark.parametrize('line', ['wall', 'wall:1,2::', 'wall:1,2,256::', ':1,2,3::',
                                  'wall:a,b,c::', 'grass:1,1,1::'])
def test_a_line_that_is_none_of_a_labelmap_is_told(tmp_path, line):
    path = tmp_path / 'labelmap.txt'
    path.write_text(f'grass:0,200,0::\n{line}\n')
    with pytest.raises(UnivsegError, match=r'labelmap\.txt, line 2: expected name:red'):
        read_labelmap(path)


def test_class_names_that_a_labelmap_cannot_hold_are_told():
    with pytest.raises(UnivsegError, match="cannot hold the class name 'a:b'"):
        labelmap(Domain.create('yard', ['a:b']))


def save(path: Path, mode: str, array: np.ndarray, palette=None) -> Path:
    image = Image.frombytes(mode, array.shape[1::-1], array.tobytes())
    if palette is not None:
        image.putpalette(list(np.ravel(palette)))
    image.save(path)
    return path


@pytest.mark.parametrize('kind', ['indices', 'palette', 'colours', 'opaque', 'voc palette'])
def test_every_kind_of_label_map_gives_the_same(tmp_path, kind):
    colours = YARD.colourise(MASK)
    opaque = np.dstack([colours, np.full(MASK.shape, 255, np.uint8)])
    voc = [(0, 0, 0), (128, 0, 0), (0, 128, 0), *[(224, 224, 192)] * 253]
    path = {
        'indices': lambda path: save(path, 'L', MASK),
        'palette': lambda path: save(path, 'P', MASK, full_palette(YARD)),
        'colours': lambda path: save(path, 'RGB', colours),
        'opaque': lambda path: save(path, 'RGBA', opaque),
        'voc palette': lambda path: save(path, 'P', MASK, voc),
    }[kind](tmp_path / 'mask.png')
    np.testing.assert_array_equal(DECODER.read(path), MASK)


def test_a_palette_in_another_order_is_an_error_until_one_says_what_counts(tmp_path):
    # As tools write it that put the background first.
    shifted = np.array([[1, 2, 3, 0], [3, 3, 2, 1]], np.uint8)
    path = save(tmp_path / 'mask.png', 'P', shifted, [(0, 0, 0), *YARD.palette])
    with pytest.raises(ImageError, match=r'mask\.png: its palette gives index 1 the colour '
                       r'\(0, 200, 0\) of class 0, grass; say'):
        DECODER.read(path)
    by_colour = LabelDecoder(YARD, class_colours(YARD), 'colours')
    np.testing.assert_array_equal(by_colour.read(path), MASK)
    with pytest.raises(ImageError, match=r'mask\.png: label indices \[3\] are outside'):
        LabelDecoder(YARD, class_colours(YARD), 'indices').read(path)


def test_unknown_colours_are_named_with_their_pixels_most_frequent_first(tmp_path):
    image = YARD.colourise(MASK)
    image[0, :2] = (1, 2, 3)
    image[1, 3] = (0, 201, 0)
    path = save(tmp_path / 'mask.png', 'RGB', image)
    with pytest.raises(ImageError) as told:
        DECODER.read(path)
    assert str(path) in str(told.value)
    assert '(1, 2, 3) in 2 pixels, (0, 201, 0) in 1 pixels' in str(told.value)


def test_two_classes_of_one_colour_cannot_be_told_by_it(tmp_path):
    twins = Domain.create('a', ['x', 'y', 'z'], [(1, 1, 1), (1, 1, 1), (2, 2, 2)])
    decoder = LabelDecoder(twins, class_colours(twins))
    path = save(tmp_path / 'mask.png', 'RGB', np.ones((1, 2, 3), np.uint8))
    with pytest.raises(ImageError, match=r'or for several: \(1, 1, 1\) in 2 pixels'):
        decoder.read(path)
    assert decoder.read(save(path, 'L', np.uint8([[0, 1]]))).tolist() == [[0, 1]]


def write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize(('make', 'message'), [
    (lambda path: save(path, 'L', np.uint8([[0, 3, 255]])), r'label indices \[3\] are outside'),
    (lambda path: save(path, 'RGBA', np.zeros((1, 3, 4), np.uint8)), '3 pixels are transparent'),
    (lambda path: cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint16)), 'got 16'),
    (lambda path: cv2.imwrite(str(path), np.zeros((2, 2), np.uint16)), 'one 8-bit channel'),
    (lambda path: Image.new('RGB', (4, 4)).save(path, 'JPEG'), 'expected a PNG'),
    (lambda path: write_bytes(path, b''), 'expected a PNG'),
    (lambda path: write_bytes(path, b'\x89PNG\r\n\x1a\n'), 'truncated PNG'),
    (lambda path: path.mkdir(), 'cannot be read'),
])
def test_what_is_no_label_map_is_told(tmp_path, make, message):
    path = tmp_path / 'mask.png'
    make(path)
    with pytest.raises(ImageError, match=message) as told:
        DECODER.read(path)
    assert str(told.value).count(str(path)) == 1


# Import

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
            ('label map is 24×32, its frame 32×24 (turned by', 'label map is 32×20, its frame '
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


# New folders

def test_a_new_folder_is_whole_or_not_there(tmp_path):
    path = tmp_path / 'below' / 'new'
    with pytest.raises(OSError, match='full'), new_folder(path) as unfinished:
        (unfinished / 'a').touch()
        raise OSError(errno.ENOSPC, 'full')
    assert not list(path.parent.iterdir())
    with new_folder(path) as unfinished:
        (unfinished / 'a').touch()
        assert not path.exists()
    assert [each.name for each in path.iterdir()] == ['a']
    assert [each.name for each in path.parent.iterdir()] == ['new']
    with pytest.raises(FileExistsError, match='name a new folder'), new_folder(path):
        pass


def test_leftovers_of_the_killed_are_removed_and_those_of_the_running_kept(tmp_path):
    code = ('import sys, time\nfrom pathlib import Path\n'
            'from univseg_core.files import temporary_folder\n'
            'with temporary_folder(Path(sys.argv[1])) as folder:\n'
            '    print(folder, flush=True)\n    time.sleep(60)')
    with subprocess.Popen([sys.executable, '-c', code, tmp_path / 'out'], text=True,
                          stdout=subprocess.PIPE) as process:
        left = Path(process.stdout.readline().strip())
        with temporary_folder(tmp_path / 'out'):
            assert left.is_dir()
        process.kill()
    assert left.is_dir()
    with temporary_folder(tmp_path / 'out'):
        assert not left.exists()


# Commands

def test_prelabel_writes_what_a_person_starts_from(model, frames, tmp_path, capsys):
    out = tmp_path / 'to_correct'
    command = ['prelabel', str(model), str(frames), '--domain', 'outdoor', '--out', str(out),
               '--confidence', '0.4', '--device', 'cpu']
    assert main(command) == 0
    assert '3 frames with masks' in capsys.readouterr().out
    segmenter = Segmenter.load(model, device='cpu')
    unsure = 0
    for frame in listed(frames):
        mask = segmenter(read_image(frame), ['outdoor'], threshold=0.4)['outdoor'].mask
        unsure += (mask == 255).sum()
        np.testing.assert_array_equal(
            read_label(out / 'labels' / f'{frame.stem}.png', OUTDOOR), mask)
        indices, palette = decode_palette_png(
            (out / 'SegmentationClass' / f'{frame.stem}.png').read_bytes())
        np.testing.assert_array_equal(indices, mask)
        assert palette[:4].tolist() == [*map(list, OUTDOOR.palette), [0, 0, 0]]
        assert (out / 'images' / frame.name).samefile(frame)
    assert 0 < unsure < 3 * 24 * 32
    assert (out / 'classes.txt').read_text() == 'ground\nbox\nball\n'
    assert (out / 'labelmap.txt').read_text() == labelmap(OUTDOOR)
    names = (out / 'ImageSets' / 'Segmentation' / 'default.txt').read_text()
    assert names == 'a\nb.c\nd\n'
    # What a person may have corrected is not written over.
    assert main(command) == 1
    assert 'name a new folder' in capsys.readouterr().err


def test_prelabel_takes_the_ranked_frames_alone(model, frames, tmp_path, capsys):
    ranking = tmp_path / 'rank.csv'
    ranking.write_text('rank,file\n1,elsewhere/d.png\n2,elsewhere/a.png\n')
    command = ['prelabel', str(model), str(frames), '--domain', 'indoor', '--ranked',
               str(ranking), '--out']
    assert main([*command, str(tmp_path / 'out')]) == 0
    assert [path.name for path in listed(tmp_path / 'out' / 'images')] == ['a.png', 'd.png']
    ranking.write_text('rank,file\n1,d.png\n2,gone.png\n')
    assert main([*command, str(tmp_path / 'other')]) == 1
    assert 'rank.csv: 1 of its 2 frames are not in the folder: gone.png' in capsys.readouterr().err
    assert not (tmp_path / 'other').exists()


def test_masks_go_out_and_come_back_by_index_palette_and_colour(model, frames, tmp_path, capsys):
    out = tmp_path / 'to_correct'
    assert main(['prelabel', str(model), str(frames), '--domain', 'outdoor', '--out', str(out),
                 '--confidence', '0.4']) == 0
    coloured = tmp_path / 'coloured'
    for path in listed(out / 'SegmentationClass'):
        write_png(coloured / path.name, read_image(path))  # its colours
    shutil.copy(out / 'labelmap.txt', coloured)
    back = []
    for labels in (out / 'labels', out / 'SegmentationClass', coloured):
        back.append(tmp_path / f'from_{labels.name}')
        assert main(['import-labels', str(labels), '--frames', str(frames), '--model', str(model),
                     '--domain', 'outdoor', '--labelmap', str(out / 'labelmap.txt'), '--out',
                     str(back[-1])]) == 0
        assert f'train: {{images: {back[-1]}/image, labels: {back[-1]}/label}}' in (
            capsys.readouterr().out)
    first, *others = ({name: data for name, (data, _) in contents(folder).items()}
                      for folder in back)
    assert len(first) == 7
    assert all(other == first for other in others)


def test_import_knows_the_domain_from_a_configuration_too(values, write_config, frames, tmp_path,
                                                          capsys):
    write_png(tmp_path / 'labels' / 'a.png', np.full((24, 32, 3), (9, 9, 9), np.uint8))
    command = ['import-labels', str(tmp_path / 'labels'), '--frames', str(frames), '--config',
               str(write_config(values)), '--out', str(tmp_path / 'out'), '--domain']
    assert main([*command, 'attic']) == 1
    assert "unknown domain 'attic'; there are outdoor, indoor" in capsys.readouterr().err
    assert main([*command, 'indoor']) == 1
    assert 'a.png: colours that stand for no class of indoor' in capsys.readouterr().err
    write_png(tmp_path / 'labels' / 'a.png', np.ones((24, 32), np.uint8))
    assert main([*command, 'indoor', '--void', '9,9,9']) == 0
    assert (tmp_path / 'out' / 'classes.txt').read_text() == 'wall\nlamp\n'


@pytest.mark.parametrize('options', [['--void', '1,2'], ['--void', '1,2,256'],
                                     ['--palette', 'both'], ['--model', 'x']])
def test_options_that_cannot_be_show_the_usage(capsys, options):
    with pytest.raises(SystemExit) as stopped:
        main(['import-labels', 'a', '--frames', 'b', '--config', 'c', '--domain', 'd', '--out',
              'e', *options])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith('usage: univseg import-labels')


WITHOUT_EXTRAS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('lightning', 'pydantic', 'sklearn', 'torchmetrics',
                                  'torchvision', 'matplotlib', 'tensorboard', 'PIL'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Absent())
from univseg_core.cli import main
model, frames, ranking, masks, out = sys.argv[1:]
sys.exit(main(['rank', model, frames, '--domain', 'outdoor', '--out', ranking])
         or main(['prelabel', model, frames, '--domain', 'outdoor', '--ranked',
                  ranking + '/rank.csv', '--out', masks])
         or main(['import-labels', masks + '/labels', '--frames', masks + '/images', '--model',
                  model, '--domain', 'outdoor', '--out', out]))
"""


def test_the_loop_needs_no_training_packages(model, frames, tmp_path):
    places = [str(tmp_path / name) for name in ('ranking', 'masks', 'out')]
    result = subprocess.run([sys.executable, '-c', WITHOUT_EXTRAS, model, frames, *places],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(listed(tmp_path / 'out' / 'label')) == 3
