"""
The kinds of files that fuzz.py changes: sound ones to begin with, and how each is read.

A reader raises nothing but the errors that its kind has documented, or FindingError.
"""

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
import io
import itertools
import json
from pathlib import Path
import struct
from types import SimpleNamespace
from typing import Any
import zlib

import cv2
from fuzzed import annotation_files
import numpy as np

CORPUS = Path(__file__).parents[2] / 'tests' / 'core' / 'corpus'

LONGEST_MESSAGE = 10_100
"""Characters of an error."""


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


def too_long(*texts: str) -> None:
    """Raise FindingError for a text that nobody can read."""
    for text in texts:
        if len(text) > LONGEST_MESSAGE:
            raise FindingError(f'a message of {len(text)} characters')


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


def exported(folder: Path) -> list[bytes]:
    """Return a file as `univseg export` writes it, of a network that is none."""
    from univseg_core.domains import Domain
    from univseg_core.models.exported_file import Export, ExportedModel, save_exported
    from univseg_core.models.heads import Heads, LinearMap
    from univseg_core.models.model_card import ModelCard, ModelSpec
    from univseg_core.models.normalisation import IMAGENET

    def linear(outputs: int) -> LinearMap:
        return LinearMap(np.ones((outputs, 3), np.float32), np.zeros(outputs, np.float32))

    domain, path = Domain.create('d', ['a', 'b']), folder / 'a.onnx'
    heads = Heads({'d': linear(2)}, linear(4), {'d': np.ones((2, 4), np.float32)})
    save_exported(path, ExportedModel(
        path, b'\x08\x0a\x12\x04tool', Export(), ModelSpec('light', 1 / 16, 4), IMAGENET, 3, heads,
        {'d': domain}), ModelCard(240, {'d': 0.5}, {'config': {}}))
    return [path.read_bytes()]


def read_exported(path: Path) -> None:
    """Load an exported model, whether it is taken for one or not."""
    from univseg_core.models.exported_file import load_exported
    load_exported(path)


def with_its_checksum(data: bytes) -> bytes:
    """Return an exported file whose description has the checksum of what it is now."""
    from univseg_core.models import exported_file

    with suppress(Exception):  # where nothing can be found any more
        _, end, _, entries = exported_file._parts(data)
        described = json.loads(entries[exported_file.METADATA_KEY])
        told = described.pop('sha256').encode()
        arrays = base64.b64decode(entries[exported_file.HEADS_KEY])
        right = exported_file._checksum(data[:end], arrays, described).encode()
        if len(told) == len(right):
            return data.replace(told, right)
    return data


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
ANNOTATION_ERRORS = documented('annotations.regions:AnnotationError')
KINDS = {
    'configuration': Kind('.yaml', configurations, read_configuration,
                          documented('settings.file:ConfigError'), is_text=True),
    'mcap': Kind('.mcap', bags('mcap'), read_bag, BAG_ERRORS),
    'sqlite3': Kind('.db3', bags('sqlite3'), read_bag, BAG_ERRORS),
    'metadata': Kind('.yaml', metadata, read_metadata, BAG_ERRORS, is_text=True),
    'model': Kind('.univseg', models, read_model, documented('models.model_file:ModelFileError'),
                  repaired=with_its_length),
    'exported': Kind('.onnx', exported, read_exported,
                     documented('models.model_card:ModelFileError'), repaired=with_its_checksum),
    'picture': Kind('.png', pictures, read_picture, documented(
        'pictures.images:ImageError', 'pictures.image_messages:MessageError'),
                    repaired=with_checksums),
    'label': Kind('.png', labels, read_labels, documented('pictures.images:ImageError'),
                  repaired=with_checksums),
    'coco': Kind('.json', annotation_files.written('coco', 'coco-polygons'),
                 annotation_files.reader('coco'), ANNOTATION_ERRORS, is_text=True),
    'cvat': Kind('.xml', annotation_files.written('cvat', 'cvat-polygons'),
                 annotation_files.reader('cvat'), ANNOTATION_ERRORS, is_text=True),
    'labelme': Kind('.json', annotation_files.of_tools('labelme/yard_0001.json'),
                    annotation_files.reader('labelme'), ANNOTATION_ERRORS, is_text=True),
    'label-studio': Kind(
        '.json', annotation_files.of_tools('label_studio/project-1.json',
                                           'label_studio/min/project-1-min.json'),
        annotation_files.reader('label-studio'), ANNOTATION_ERRORS, is_text=True),
    'cityscapes': Kind(
        '.json', annotation_files.of_tools(
            'cityscapes/gtFine/val/bonn/bonn_000003_000019_gtFine_polygons.json'),
        annotation_files.reader('cityscapes'), ANNOTATION_ERRORS, is_text=True),
    'message': Kind('.raw', messages, read_message,
                    documented('pictures.image_messages:MessageError')),
}


def corpus(name: str) -> list[bytes]:
    """Return the files of a kind that were found earlier."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob('*'))]
