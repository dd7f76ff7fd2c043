"""
Change sound files of each kind at random, and look for what reading them must not do.

    python benchmarks/fuzz.py --seconds 240 --found found
    python benchmarks/fuzz.py --files 100000 --found found

Reading ends well or in the error that is documented, within 5 s of CPU time, and with at most
768 MB more memory than before. What does not is shrunk, told and kept in the folder --found as
KIND-HASH; such files are tests, in tests/core/corpus/KIND, and seeds of further searches. The
engine is Hypothesis: each of its examples is some changes of a sound file, which are made at many
places of it.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
import hashlib
import io
import itertools
import json
import logging
import math
from pathlib import Path
import re
import signal
import struct
import tempfile
import time
import traceback
from types import SimpleNamespace
from typing import Any
import zlib

import cv2
import numpy as np

CORPUS = Path(__file__).parents[1] / 'tests' / 'core' / 'corpus'
LONGEST, MOST_MEMORY, LONGEST_MESSAGE = 5.0, 768, 10_100
"""Seconds and MB (of three of the largest messages) of one file, characters of its error."""

EACH = 32
"""Files that an example stands for."""

WHERE = 1 << 16
"""Places of a file that are told apart."""

EXTREMES = [0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1,
            2**63, 2**64 - 1]
WORDS = [
    '.inf', '.nan', '-.inf', '0x_', '0b', '2024-02-30', '2024-01-01', '!!int x', '!!set ', '~',
    '!!timestamp x', '!!binary x', '!!python/name:os.system ', '1:' * 50 + '1', '9' * 5000,
    '0x' + 'f' * 5000, '[' * 200, '{' * 200, '&a [*a]', '*a', '<<: ', '? ', '\ufeff', '\x85',
    '~nobody/x', '$NOTHING', '/dev/zero', 'x' * 5000, '\0', '"\\ud800"', 'null', 'yes', '-1',
    '1e400', '', '- ', ': ', '\t', '\n', '#', '{}', '[]', "''", '../..', '1.5', '[1, 2]', '7']

TOKEN = re.compile(rb'[^\s,:\[\]{}]+')
"""A key or value of YAML, as a rule."""


@dataclass(frozen=True)
class Kind:
    """
    A kind of files: its suffix, sound ones, how it is read, and which errors that may have.

    `repaired` mends what would have a reader look no further, such as a checksum.
    """

    suffix: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    errors: Callable[[], tuple[type[Exception], ...]]
    is_text: bool = False
    repaired: Callable[[bytes], bytes] = bytes


class FindingError(Exception):
    """What reading a file must not do."""


# --- Kinds --------------------------------------------------------------------------------------


def configurations(_: Path) -> list[bytes]:
    """Return texts of run configurations."""
    return [b'domains: {d: {classes: [a, b], train: {images: ., labels: .}, validation: '
            b'{images: ., labels: .}, labelled: 1}}\ntraining: {steps: 3, learning_rate: 0.1}\n',
            b'domains:\n  d:\n    classes: &c [a, b]\n    palette: [[0, 0, 0], [1, 2, 3]]\n'
            b'    train: {images: ., labels: .}\n    validation: {images: ., labels: .}\n'
            b'    unlabelled: [., "x.mcap:/front"]\n  e: {classes: *c, root: ., dataset: camvid}\n'
            b'data: {scale: [0.5, 2], crop_size: 64}\nobjective: {alpha: 1e-2}\n']


def read_configuration(path: Path) -> None:
    """Load a configuration, and take its text as a value of another one."""
    from univseg_core.settings.config import load_config
    from univseg_core.settings.file import ConfigError, override_setting

    text = path.read_bytes().decode(errors='replace')
    with suppress(ConfigError):
        override_setting({}, f'training.steps={text}')
    load_config(path)


def bags(storage: str) -> Callable[[Path], list[bytes]]:
    """Return what makes small bags of one kind of storage."""
    def make(folder: Path) -> list[bytes]:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
        from rosbags.typesys import get_typestore, Stores

        store = get_typestore(Stores.ROS2_JAZZY)
        types, found = store.types, []
        header = types['std_msgs/msg/Header'](types['builtin_interfaces/msg/Time'](1, 2), 'camera')
        raw = types['sensor_msgs/msg/Image'](
            header, 4, 6, 'rgb8', 0, 18, np.arange(72, dtype=np.uint8))
        packed = types['sensor_msgs/msg/CompressedImage'](
            header, 'jpeg', np.frombuffer(png(), np.uint8))
        modes = {'mcap': ['storage', 'message', None], 'sqlite3': ['message', None]}[storage]
        for number, mode in enumerate(modes):
            path = folder / f'{storage}{number}'
            writer = Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()])
            if mode:
                writer.set_compression(CompressionMode[mode.upper()], CompressionFormat.ZSTD)
            with writer:
                for topic, message in (('/raw', raw), ('/packed', packed)):
                    connection = writer.add_connection(topic, message.__msgtype__,
                                                       typestore=store)
                    for moment in (5, 6):
                        writer.write(connection, moment,
                                     store.serialize_cdr(message, message.__msgtype__))
            found += [file.read_bytes() for file in path.iterdir() if file.suffix != '.yaml']
        return found + (chunked_mcap(store.serialize_cdr(raw, raw.__msgtype__))
                        if storage == 'mcap' else [])
    return make


def chunked_mcap(image: bytes) -> list[bytes]:
    """Return MCAP files with chunks that have no checksum, as they are and packed."""
    from mcap.writer import CompressionType, Writer

    found = []
    for compression in CompressionType:
        file = io.BytesIO()
        writer = Writer(file, compression=compression, enable_crcs=False)
        writer.start()
        schema = writer.register_schema('sensor_msgs/msg/Image', 'ros2msg', b'')
        channel = writer.register_channel('/raw', 'cdr', schema)
        for moment in (5, 6):
            writer.add_message(channel, moment, image, moment)
        writer.finish()
        found.append(file.getvalue())
    return found


def metadata(folder: Path) -> list[bytes]:
    """Return metadata.yaml of a small bag."""
    folder = folder / 'of_metadata'
    folder.mkdir()
    bags('mcap')(folder)
    return [(folder / 'mcap0' / 'metadata.yaml').read_bytes()]


def read_bag(path: Path) -> None:
    """Read all messages of a bag, and decode their pictures, as `univseg frames` does."""
    from univseg_core.bags.reading import Bag, BagError, deserialise, IMAGE_TYPES
    from univseg_core.pictures.image_messages import decode, MessageError

    with Bag(path) as bag:
        topics = bag.topics()
        bag.begin()
        for message in itertools.islice(bag.messages(topics), 1000):
            if message.msgtype in IMAGE_TYPES:
                with suppress(BagError, MessageError):
                    decode(deserialise(message))
        bag.count(topics)
        too_long(*bag.damage)


def read_metadata(path: Path) -> None:
    """Read a bag of that metadata, without files."""
    folder = path.with_suffix('')
    folder.mkdir(exist_ok=True)
    (folder / 'metadata.yaml').write_bytes(path.read_bytes())
    read_bag(folder)


def models(folder: Path) -> list[bytes]:
    """Return a small model file, with its checksum and without."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
    from univseg_core.domains import Domain
    from univseg_core.models.model_file import CHECKSUM_KEY, METADATA_KEY, ModelCard, save_model
    from univseg_core.models.universal import ModelSpec, UniversalSegmenter

    network = UniversalSegmenter(ModelSpec('light', 1 / 16, 4), [Domain.create('d', ['a', 'b'])])
    path = folder / 'a.univseg'
    save_model(path, network, ModelCard(240, {'d': 0.5}, {'config': {}}))
    with safe_open(path, framework='pt') as file:
        description = json.loads(file.metadata()[METADATA_KEY])
    del description[CHECKSUM_KEY]
    save_file(load_file(path), folder / 'b.univseg', {METADATA_KEY: json.dumps(description)})
    return [path.read_bytes(), (folder / 'b.univseg').read_bytes()]


def read_model(path: Path) -> None:
    """Load a model file."""
    from univseg_core.models.model_file import load_model
    load_model(path)


def with_its_length(data: bytes) -> bytes:
    """Return a model file that tells how long its header is, if the end of that can be seen."""
    end = data.find(b'}}') + 2
    return struct.pack('<Q', end - 8) + data[8:] if end > 8 else data


def png(picture: np.ndarray | None = None) -> bytes:
    """Return a picture's PNG."""
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3) if picture is None else picture
    return cv2.imencode('.png', picture)[1].tobytes()


def with_checksums(data: bytes) -> bytes:
    """Return a PNG whose chunks have their checksums; any other file as it is."""
    at, fixed = 8, bytearray(data)
    while data.startswith(b'\x89PNG') and at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at:at + 4], 'big')
        fixed[end:end + 4] = zlib.crc32(data[at + 4:end]).to_bytes(4, 'big')[:len(data) - end]
        at = end + 4
    return bytes(fixed)


def of_pillow(picture: np.ndarray, format_: str, mode: str = 'RGB', **options: Any) -> bytes:
    """Return a picture's file as Pillow writes it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, format_, **options)
    return file.getvalue()


def pictures(_: Path) -> list[bytes]:
    """Return small files of all formats, and several kinds."""
    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = colours[..., 0].astype(np.uint16) * 257
    found = [png(colours), png(grey), png(np.dstack([colours, colours[..., 0]])),
             of_pillow(colours, 'PNG', 'P', exif=turned), of_pillow(colours, 'PNG', '1')]
    for progressive in (0, 1):
        options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 3]
        found.append(cv2.imencode('.jpg', colours, options)[1].tobytes())
    found += [of_pillow(colours, 'JPEG', 'CMYK', exif=turned), of_pillow(colours, 'BMP'),
              of_pillow(colours, 'BMP', 'P'), of_pillow(colours, 'WEBP'),
              of_pillow(colours, 'WEBP', lossless=True, exif=turned)]
    found += [of_pillow(colours, 'TIFF', compression=name) for name in
              ('raw', 'tiff_lzw', 'tiff_adobe_deflate', 'packbits', 'jpeg')]
    return found


def read_picture(path: Path) -> None:
    """Decode a picture as one of a camera's messages, and as a file."""
    from univseg_core.pictures.compressed import decode_small
    from univseg_core.pictures.image_messages import decode
    from univseg_core.pictures.images import read_image

    for read in (lambda: decode(SimpleNamespace(format='jpeg', data=path.read_bytes())),
                 lambda: decode_small(path.read_bytes(), 9)):
        with suppress(*KINDS['picture'].errors()):
            read()
    read_image(path)


def labels(_: Path) -> list[bytes]:
    """Return label maps."""
    codes = np.arange(64, dtype=np.uint8).reshape(8, 8) % 3
    return [png(codes), png(np.full((8, 8), 255, np.uint8)), of_pillow(codes, 'PNG', 'P'),
            png(np.dstack([codes] * 3)), png(np.dstack([codes] * 4)), of_pillow(codes, 'TIFF')]


def read_labels(path: Path) -> None:
    """Read a label map, and as one that an annotation tool gave back."""
    from univseg_core.domains import Domain
    from univseg_core.labelling.returned_labels import class_colours, LabelDecoder
    from univseg_core.pictures.images import read_label

    domain = Domain.create('d', ['a', 'b', 'c'])
    with suppress(*KINDS['label'].errors()):
        LabelDecoder(domain, class_colours(domain)).read(path)
    read_label(path, domain)


def messages(_: Path) -> list[bytes]:
    """Return raw images as a text of their sizes, and their data."""
    return [b'4 6 18 0 rgb8\n' + bytes(72), b'4 4 8 1 mono16\n' + bytes(32),
            b'4 4 4 0 nv12\n' + bytes(24), b'4 4 8 0 yuv422_yuy2\n' + bytes(32),
            b'4 4 4 0 bayer_rggb8\n' + bytes(16)]


def read_message(path: Path) -> None:
    """Decode a raw image."""
    from univseg_core.pictures.image_messages import decode

    head, _, data = path.read_bytes().partition(b'\n')
    fields = head.decode(errors='replace').split(' ')
    # The middleware gives numbers of 32 bits, and a text.
    numbers = [int(field) % 2**32 if field.isascii() and field.isdigit() and len(field) < 30
               else 1 for field in [*fields, '', '', '', ''][:4]]
    decode(SimpleNamespace(height=numbers[0], width=numbers[1], step=numbers[2], data=data,
                           is_bigendian=numbers[3] % 256, encoding=' '.join(fields[4:])))


def documented(*names: str) -> Callable[[], tuple[type[Exception], ...]]:
    """Return what imports the errors of some names, MODULE:CLASS, when it is called."""
    def find() -> tuple[type[Exception], ...]:
        from importlib import import_module
        return tuple(getattr(import_module(f'univseg_core.{module}'), name)
                     for module, name in (name.split(':') for name in names))
    return find


BAG_ERRORS = documented('bags.reading:BagError')
KINDS = {
    'configuration': Kind('.yaml', configurations, read_configuration,
                          documented('settings.file:ConfigError'), is_text=True),
    'mcap': Kind('.mcap', bags('mcap'), read_bag, BAG_ERRORS),
    'sqlite3': Kind('.db3', bags('sqlite3'), read_bag, BAG_ERRORS),
    'metadata': Kind('.yaml', metadata, read_metadata, BAG_ERRORS, is_text=True),
    'model': Kind('.univseg', models, read_model, documented('models.model_file:ModelFileError'),
                  repaired=with_its_length),
    'picture': Kind('.png', pictures, read_picture, documented(
        'pictures.images:ImageError', 'pictures.image_messages:MessageError'),
                    repaired=with_checksums),
    'label': Kind('.png', labels, read_labels, documented('pictures.images:ImageError'),
                  repaired=with_checksums),
    'message': Kind('.raw', messages, read_message,
                    documented('pictures.image_messages:MessageError')),
}


# --- The search ---------------------------------------------------------------------------------


def too_long(*texts: str) -> None:
    """Raise FindingError for a text that nobody can read."""
    for text in texts:
        if len(text) > LONGEST_MESSAGE:
            raise FindingError(f'a message of {len(text)} characters')


def attempt(kind: Kind, data: bytes, folder: Path) -> None:
    """Read a file; raise FindingError, or the error that is not documented."""
    path = folder / f'file{kind.suffix}'
    path.write_bytes(data)
    before, start = memory(forget=True), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 4 * LONGEST)
    try:
        kind.read(path)
    except kind.errors() as error:
        too_long(str(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if (seconds := time.process_time() - start) > LONGEST:
        raise FindingError(f'took {seconds:.1f} s')
    if (more := memory() - before) > MOST_MEMORY:
        raise FindingError(f'took {more} MB')


def never_ends(*_: object) -> None:
    """Interrupt what a file leads to."""
    raise FindingError('does not end')


def memory(forget: bool = False) -> int:
    """Return the most memory that this process has had, in MB, or has now where it forgets."""
    process = Path('/proc/self')
    if forget:
        (process / 'clear_refs').write_bytes(b'5')
    return int(re.search(rb'VmHWM:\s+(\d+)', (process / 'status').read_bytes())[1]) // 1024


def where(error: Exception) -> str:
    """Return the kind of an error, and the place where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error) if isinstance(error, FindingError) else ''
    return f'{type(error).__name__} {Path(frame.filename).name}:{frame.lineno} {text[:20]}'.strip()


def search(name: str, kind: Kind, seeds: list[bytes], folder: Path, examples: int,
           known: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what is found in some changed files, and the file; `known` is not told again."""
    from hypothesis import given, HealthCheck, Phase, settings, strategies, Verbosity

    last: list[tuple[str, bytes]] = []

    @settings(max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
              phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
              verbosity=Verbosity.quiet)
    @given(strategies.sampled_from(seeds), changes(strategies, kind.is_text))
    def read(seed: bytes, some: list[Change]) -> None:
        for number in range(EACH):
            data = changed(seed, some, number)
            data = kind.repaired(data) if number % 2 else data
            counts[name] += 1
            try:
                attempt(kind, data, folder)
            except Exception as error:
                if (place := where(error)) in known:
                    continue
                last[:] = [(place, data)]
                raise

    try:
        read()
    except Exception:
        known.add(last[0][0])
        yield last[0]


counts: dict[str, int] = dict.fromkeys(KINDS, 0)

Change = tuple[str, int, int, Any]
"""What is done, where (of WHERE), to how many bytes, and with what."""


def changes(strategies: Any, is_text: bool) -> Any:
    """Return the strategy of one to four changes."""
    place = strategies.integers(0, WHERE - 1)

    def change(what: str, value: Any, most: int = 64) -> Any:
        return strategies.tuples(strategies.just(what), place, strategies.integers(1, most), value)

    some = [change('set', strategies.binary(min_size=1, max_size=8)),
            change('number', strategies.tuples(
                strategies.integers(0, len(EXTREMES) - 1), strategies.sampled_from([1, 2, 4, 8]),
                strategies.sampled_from(['little', 'big']))),
            *(change(what, strategies.none()) for what in ('cut', 'copy', 'zero', 'end'))]
    if is_text:
        some += 3 * [change('word', strategies.integers(0, len(WORDS) - 1), 20),
                     change('token', strategies.integers(0, len(WORDS) - 1)),
                     change('text', strategies.text(min_size=1, max_size=6), 20)]
    return strategies.lists(strategies.one_of(some), min_size=1, max_size=4)


def changed(seed: bytes, some: list[Change], number: int) -> bytes:
    """Return a file with some changes; a further `number` makes them at other places."""
    data = bytearray(seed)
    for step, (what, place, size, value) in enumerate(some, 1):
        place = (place + 40503 * number * step) % WHERE  # a golden section further each time
        at = place * (len(data) + 1) // WHERE
        if what == 'set':
            data[at:at + len(value)] = value
        elif what == 'number':
            which, width, order = value
            extreme = EXTREMES[(which + number) % len(EXTREMES)] % 256**width
            data[at:at + width] = extreme.to_bytes(width, order)
        elif what == 'cut':
            del data[at:at + size]
        elif what == 'copy':
            start = (place * 7 + number) % (len(data) + 1)
            data[at:at] = data[start:start + size]
        elif what == 'zero':
            data[at:at + size] = bytes(len(data[at:at + size]))
        elif what == 'end':
            del data[at:]
        elif what == 'text':
            data[at:at + size] = value.encode(errors='surrogatepass')
        else:
            if what == 'token' and (tokens := list(TOKEN.finditer(data))):
                at, end = tokens[place * len(tokens) // WHERE].span()
                size = end - at
            word = WORDS[(value + number) % len(WORDS)]
            data[at:at + size] = word.encode(errors='surrogatepass')
    return bytes(data)


def main() -> None:
    """Search for so long, and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float,
                        help='(default: 60, or as long as --files takes)')
    parser.add_argument('--files', type=int, help='how many of each kind (default: any number)')
    parser.add_argument('--kinds', nargs='+', default=list(KINDS), choices=list(KINDS),
                        metavar='KIND', help=f'of {", ".join(KINDS)} (default: all)')
    parser.add_argument('--found', type=Path, help='folder for what is found (default: none)')
    options = parser.parse_args()
    logging.disable()  # of what is readable in spite of its damage
    signal.signal(signal.SIGPROF, never_ends)
    known: set[str] = set()
    found = dict.fromkeys(options.kinds, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = {name: KINDS[name].seeds(folder) + corpus(name) for name in options.kinds}
        for name in options.kinds:  # which imports what reading takes
            with suppress(*KINDS[name].errors()):
                path = folder / f'sound{KINDS[name].suffix}'
                path.write_bytes(seeds[name][0])
                KINDS[name].read(path)
        end = time.monotonic() + (options.seconds or (math.inf if options.files else 60))
        left = list(options.kinds)
        while left and time.monotonic() < end:
            for name in [name for name in left if time.monotonic() < end]:
                for place, data in search(name, KINDS[name], seeds[name], folder, 100, known):
                    found[name] += 1
                    print(f'{name}: {place}: {data[:100]!r}, {len(data)} bytes', flush=True)
                    if options.found:
                        options.found.mkdir(parents=True, exist_ok=True)
                        digest = hashlib.sha256(data).hexdigest()[:8]
                        (options.found / f'{name}-{digest}').write_bytes(data)
            left = [name for name in left if counts[name] < (options.files or math.inf)]
    print('\n| files | read | found |\n|---|--:|--:|')
    for name in options.kinds:
        print(f'| {name} | {counts[name]} | {found[name]} |')


def corpus(name: str) -> list[bytes]:
    """Return the files of a kind that were found earlier."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob('*'))]


if __name__ == '__main__':
    main()
