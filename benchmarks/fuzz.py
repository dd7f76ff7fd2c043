"""
Change sound files of each kind at random, and look for what reading them must not do.

    python benchmarks/fuzz.py --seconds 240 --found found

Reading ends well or in the error that is documented, within 5 s of CPU time, and without 1 GB more
memory than before. What does not is shrunk, told and kept in the folder --found as KIND-HASH; such
files are tests, in tests/core/corpus/KIND, and seeds of further searches. The engine is
Hypothesis.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
import hashlib
import itertools
import json
import logging
from pathlib import Path
import resource
import signal
import tempfile
import time
import traceback
from types import SimpleNamespace

import cv2
import numpy as np

CORPUS = Path(__file__).parents[1] / 'tests' / 'core' / 'corpus'
LONGEST, MOST_MEMORY, LONGEST_MESSAGE = 5.0, 1 << 20, 10_100
"""Seconds and kB that one file may take, and characters of its error."""

EXTREMES = [0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1,
            2**63, 2**64 - 1]
WORDS = [
    '.inf', '.nan', '-.inf', '0x_', '0b', '2024-02-30', '2024-01-01', '!!int x', '!!set ', '~',
    '!!timestamp x', '!!binary x', '!!python/name:os.system ', '1:' * 50 + '1', '9' * 5000,
    '0x' + 'f' * 5000, '[' * 200, '{' * 200, '&a [*a]', '*a', '<<: ', '? ', '\ufeff', '\x85',
    '~nobody/x', '$NOTHING', '/dev/zero', 'x' * 5000, '\0', '"\\ud800"', 'null', 'yes', '-1',
    '1e400', '', '- ', ': ', '\t', '\n', '#', '{}', '[]', "''", '../..', '1.5', '[1, 2]', '7']


@dataclass(frozen=True)
class Kind:
    """A kind of files: its suffix, sound ones, how it is read, and which errors that may have."""

    suffix: str
    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    errors: Callable[[], tuple[type[Exception], ...]]
    is_text: bool = False


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
        return found
    return make


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


def png(picture: np.ndarray | None = None) -> bytes:
    """Return a picture's PNG."""
    picture = np.arange(72, dtype=np.uint8).reshape(4, 6, 3) if picture is None else picture
    return cv2.imencode('.png', picture)[1].tobytes()


def pictures(_: Path) -> list[bytes]:
    """Return small PNG and JPEG files of several kinds."""
    colours = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    grey = colours[..., 0].astype(np.uint16) * 257
    found = [png(colours), png(grey), png(np.dstack([colours, colours[..., 0]]))]
    for progressive in (0, 1):
        options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
        found.append(cv2.imencode('.jpg', colours, options)[1].tobytes())
    return found


def read_picture(path: Path) -> None:
    """Decode a picture as one of a camera's messages."""
    from univseg_core.pictures.compressed import decode_small
    from univseg_core.pictures.image_messages import decode

    data = path.read_bytes()
    decode(SimpleNamespace(format='jpeg', data=data))
    decode_small(data, 9)


def labels(_: Path) -> list[bytes]:
    """Return label maps."""
    return [png(np.zeros((8, 8), np.uint8)), png(np.full((8, 8), 255, np.uint8))]


def read_labels(path: Path) -> None:
    """Read a label map."""
    from univseg_core.domains import Domain
    from univseg_core.pictures.images import read_label
    read_label(path, Domain.create('d', ['a', 'b']))


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
    'model': Kind('.univseg', models, read_model, documented('models.model_file:ModelFileError')),
    'picture': Kind('.png', pictures, read_picture, documented(
        'pictures.images:ImageError', 'pictures.image_messages:MessageError')),
    'label': Kind('.png', labels, read_labels, documented('pictures.images:ImageError')),
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
    before, start = memory(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 4 * LONGEST)
    try:
        kind.read(path)
    except kind.errors() as error:
        too_long(str(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if (seconds := time.process_time() - start) > LONGEST:
        raise FindingError(f'took {seconds:.1f} s')
    if memory() - before > MOST_MEMORY:
        raise FindingError(f'took {(memory() - before) // 1024} MB')


def never_ends(*_: object) -> None:
    """Interrupt what a file leads to."""
    raise FindingError('does not end')


def memory() -> int:
    """Return the most kB of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def where(error: Exception) -> str:
    """Return the kind of an error, and the place where it was raised."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error) if isinstance(error, FindingError) else ''
    return f'{type(error).__name__} {Path(frame.filename).name}:{frame.lineno} {text[:20]}'.strip()


def search(name: str, kind: Kind, seeds: list[bytes], folder: Path, examples: int,
           known: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what is found in some changed files, and the file; `known` is not told again."""
    from hypothesis import given, HealthCheck, Phase, settings, strategies, Verbosity

    change = changed_text if kind.is_text else changed
    last: list[tuple[str, bytes]] = []

    @settings(max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
              phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
              verbosity=Verbosity.quiet)
    @given(change(strategies, seeds))
    def read(data: bytes) -> None:
        counts[name] += 1
        try:
            attempt(kind, data, folder)
        except Exception as error:
            if (place := where(error)) in known:
                return
            last[:] = [(place, data)]
            raise

    try:
        read()
    except Exception:
        known.add(last[0][0])
        yield last[0]


counts: dict[str, int] = dict.fromkeys(KINDS, 0)


def changed(strategies, seeds):
    """Return the strategy of changed bytes."""
    @strategies.composite
    def change(draw):
        data = bytearray(draw(strategies.sampled_from(seeds)))
        for _ in range(draw(strategies.integers(1, 4))):
            at = draw(strategies.integers(0, len(data)))
            size = draw(strategies.integers(1, 64))
            what = draw(strategies.sampled_from(['set', 'number', 'cut', 'copy', 'zero', 'end']))
            if what == 'set':
                new = draw(strategies.binary(min_size=1, max_size=8))
                data[at:at + len(new)] = new
            elif what == 'number':
                width = draw(strategies.sampled_from([1, 2, 4, 8]))
                order = draw(strategies.sampled_from(['little', 'big']))
                number = draw(strategies.sampled_from(EXTREMES)) % 256**width
                data[at:at + width] = number.to_bytes(width, order)
            elif what == 'cut':
                del data[at:at + size]
            elif what == 'copy':
                start = draw(strategies.integers(0, len(data)))
                data[at:at] = data[start:start + size]
            elif what == 'zero':
                data[at:at + size] = bytes(len(data[at:at + size]))
            else:
                del data[at:]
        return bytes(data)
    return change()


def changed_text(strategies, seeds):
    """Return the strategy of texts with words put in their place, and of changed bytes."""
    @strategies.composite
    def change(draw):
        text = draw(strategies.sampled_from(seeds)).decode(errors='surrogateescape')
        for _ in range(draw(strategies.integers(1, 3))):
            at = draw(strategies.integers(0, len(text)))
            size = draw(strategies.integers(0, 20))
            word = draw(strategies.sampled_from(WORDS) | strategies.text(max_size=6))
            text = text[:at] + word + text[at + size:]
        return text.encode(errors='surrogatepass')
    return strategies.one_of(change(), changed(strategies, seeds))


def main() -> None:
    """Search for so long, and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60, help='(default: %(default)s)')
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
        end = time.monotonic() + options.seconds
        for name in itertools.cycle(options.kinds):
            if time.monotonic() > end:
                break
            for place, data in search(name, KINDS[name], seeds[name], folder, 200, known):
                found[name] += 1
                print(f'{name}: {place}: {data[:100]!r}, {len(data)} bytes', flush=True)
                if options.found:
                    options.found.mkdir(parents=True, exist_ok=True)
                    digest = hashlib.sha256(data).hexdigest()[:8]
                    (options.found / f'{name}-{digest}').write_bytes(data)
    print('\n| files | read | found |\n|---|--:|--:|')
    for name in options.kinds:
        print(f'| {name} | {counts[name]} | {found[name]} |')


def corpus(name: str) -> list[bytes]:
    """Return the files of a kind that were found earlier."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob('*'))]


if __name__ == '__main__':
    main()
