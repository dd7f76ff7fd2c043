"""
Measure how fast `univseg frames` is beside OpenCV's or PyAV's bare decoding and writing.

On one core the CPU's time counts, which others on the machine disturb less; on more, the clock.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
import os
from pathlib import Path
import shutil
import statistics
import tempfile
import time

import av
import cv2
import numpy as np
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from univseg_core.bags.reading import PACKET_TYPES
from univseg_core.commands.options import size
from univseg_core.datasets.frames import extract_frames, ExtractionSettings
from univseg_core.demo.scenes.worlds import render_scene

TOPIC = '/camera/image'
CODECS = {'bgr8': None, 'rgb8': None, 'jpeg': '.jpg', 'png': '.png'}


def main() -> None:
    """Measure every kind of bag and print the table."""
    options = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.cores])
    cv2.setNumThreads(1)
    pictures = make_pictures(options.count, *options.size)
    print(f'{options.count} frames of {options.size[1]}×{options.size[0]} → {options.format}, '
          f'median of {options.repeats} runs, CPU cores: {options.cores}:\n\n'
          '| source | univseg frames, frames/s | alone, frames/s | ratio |\n|---|--:|--:|--:|')
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for row, source, bare in other_sources(Path(name), pictures, options):
            ours, alone = compare([lambda out, source=source: extract(source, out, options),
                                   lambda out, bare=bare: write(bare(), out, options)],
                                  Path(name) / 'out', options)
            print(f'| {row} | {options.count / ours:.0f} | {options.count / alone:.0f} | '
                  f'{alone / ours:.2f} |', flush=True)
        if options.no_images:
            return
        print('\n| bag | univseg frames, frames/s | OpenCV alone, from memory | ratio | OpenCV, '
              'read by rosbags | ratio |\n|---|--:|--:|--:|--:|--:|')
        for storage in ('sqlite3', 'mcap'):
            for kind in CODECS:
                folder = Path(name) / f'{storage}-{kind}'
                messages = [encode(picture, kind) for picture in pictures]
                bag = write_bag(folder / 'bag', messages, kind, storage, options.size)
                ours, bare, reading = compare([
                    lambda out, bag=bag: extract(bag, out, options),
                    lambda out, messages=messages, kind=kind: decode_and_write(
                        messages, kind, out, options),
                    lambda out, bag=bag, kind=kind: decode_and_write(
                        read(bag), kind, out, options)], folder / 'out', options)
                shutil.rmtree(folder)
                print(f'| {kind}, {storage} | {options.count / ours:.0f} | '
                      f'{options.count / bare:.0f} | {bare / ours:.2f} | '
                      f'{options.count / reading:.0f} | {reading / ours:.2f} |', flush=True)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--cores', type=int, default=1, help='of the CPU')
    parser.add_argument('--count', type=int, default=100, help='frames in each bag')
    parser.add_argument('--size', type=size, default='1280x720', help='of a frame')
    parser.add_argument('--format', choices=('jpg', 'png'), default='jpg', help='of the files')
    parser.add_argument('--repeats', type=int, default=5, help='runs of each way, in turns')
    parser.add_argument('--no-images', action='store_true',
                        help='measure videos, folders and packets alone, not bags of images')
    parser.add_argument('--folder', type=Path, help="for the bags; the system's own if left out")
    return parser.parse_args()


def make_pictures(count: int, height: int, width: int) -> list[np.ndarray]:
    """Return views of a synthetic scene with a camera's noise, (H, W, 3) uint8 BGR."""
    random = np.random.default_rng(0)
    scene, _ = render_scene('outdoor', 0, 2 * width, 2 * height)
    noise = random.normal(0, 3, (2 * height, 2 * width, 3))
    scene = np.clip(scene + noise, 0, 255).astype(np.uint8)
    corners = random.integers(0, (height, width), (count, 2))
    return [scene[y:y + height, x:x + width].copy() for y, x in corners]


def encode(picture: np.ndarray, kind: str) -> np.ndarray:
    """Return the data of a message, uint8 (N,)."""
    if CODECS[kind]:
        return cv2.imencode(CODECS[kind], picture)[1].ravel()
    return (picture if kind == 'bgr8' else picture[..., ::-1]).ravel()


def write_bag(path: Path, messages: list[np.ndarray], kind: str, storage: str,
              size: tuple[int, int]) -> Path:
    """Write a bag of images of a size (height, width), 30 a second."""
    store = get_typestore(Stores.LATEST)
    types = store.types
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()]) as writer:
        type_ = f'sensor_msgs/msg/{"CompressedImage" if CODECS[kind] else "Image"}'
        connection = writer.add_connection(TOPIC, type_, typestore=store)
        for number, data in enumerate(messages):
            moment = 10**9 + number * 10**9 // 30
            stamp = types['builtin_interfaces/msg/Time'](*divmod(moment, 10**9))
            header = types['std_msgs/msg/Header'](stamp, 'camera')
            if CODECS[kind]:
                message = types[type_](header, kind, data)
            else:
                message = types[type_](header, *size, kind, 0, 3 * size[1], data)
            writer.write(connection, moment, store.serialize_cdr(message, type_))
    return path


def read(bag: Path) -> Iterator[np.ndarray]:
    """Yield the data of a bag's messages, uint8 (N,), as rosbags reads them."""
    store = get_typestore(Stores.LATEST)
    with Reader(bag) as reader:
        for connection, _, data in reader.messages():
            yield store.deserialize_cdr(data, connection.msgtype).data


def compare(ways: list[Callable[[Path], None]], out: Path,
            options: argparse.Namespace) -> list[float]:
    """Return the median seconds of some ways, each run in turn into an empty folder."""
    clock = time.process_time if options.cores == 1 else time.perf_counter
    seconds = [[] for _ in ways]
    for _ in range(options.repeats):
        for way, taken in zip(ways, seconds, strict=True):
            out.mkdir()
            begin = clock()
            way(out)
            taken.append(clock() - begin)
            shutil.rmtree(out)
    return list(map(statistics.median, seconds))


def extract(bag: Path, out: Path, options: argparse.Namespace) -> None:
    """Extract all frames as `univseg frames` does; its near duplicates are looked for, too."""
    report = extract_frames([bag], out, settings=ExtractionSettings(
        duplicate_bits=0, codec=options.format), progress=False)
    assert report.counts.popitem()[1]['kept'] == options.count, report.text()


def other_sources(folder: Path, pictures: list[np.ndarray], options: argparse.Namespace
                  ) -> Iterator[tuple[str, Path, Callable[[], Iterable[np.ndarray]]]]:
    """
    Yield what a source is called, its path, and what decodes its pictures without this package.

    The pictures are views of one scene, each elsewhere, which is hard for a video's encoder: the
    size of the packets is that of a camera that moves fast.
    """
    video, photos, bag = folder / 'drive.mp4', folder / 'photos', folder / 'packets'
    with av.open(str(video), 'w') as container:
        stream = container.add_stream('libx264', rate=30, options={'preset': 'veryfast'})
        stream.height, stream.width = options.size
        stream.pix_fmt, stream.codec_context.gop_size = 'yuv420p', 30
        stream.codec_context.max_b_frames = 0
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='bgr24')))
        container.mux(stream.encode(None))
    photos.mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(photos / f'{number:06d}.jpg'), picture)
    packets = packets_of(video)
    write_packets(bag, packets)
    yield 'mp4, h264; OpenCV alone', video, lambda: by_opencv(video)
    yield 'h264 packets in mcap; PyAV alone, from memory', bag, lambda: by_pyav(packets)
    yield 'folder, jpeg; OpenCV alone', photos, lambda: (cv2.imread(str(path))
                                           for path in sorted(photos.iterdir()))


def packets_of(video: Path) -> list[bytes]:
    """Return the packets of a video of H.264 with start codes, as cameras send them."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        annex_b = av.BitStreamFilterContext('h264_mp4toannexb', stream)
        return [bytes(packet) for demuxed in container.demux(stream)
                for packet in annex_b.filter(demuxed if demuxed.size else None)]


def write_packets(path: Path, packets: list[bytes]) -> None:
    """Write a bag of packets of a video, 30 a second."""
    store, type_ = get_typestore(Stores.LATEST), 'foxglove_msgs/msg/CompressedVideo'
    store.register(get_types_from_msg(PACKET_TYPES[type_], type_))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(TOPIC, type_, typestore=store)
        for number, data in enumerate(packets):
            moment = 10**9 + number * 10**9 // 30
            stamp = store.types['builtin_interfaces/msg/Time'](*divmod(moment, 10**9))
            message = store.types[type_](stamp, 'camera', np.frombuffer(data, np.uint8), 'h264')
            writer.write(connection, moment, store.serialize_cdr(message, type_))


def by_opencv(video: Path) -> Iterator[np.ndarray]:
    """Yield the pictures of a video, (H, W, 3) uint8 BGR, as OpenCV reads them."""
    capture = cv2.VideoCapture(str(video))
    while (found := capture.read())[0]:
        yield found[1]


def by_pyav(packets: list[bytes]) -> Iterator[np.ndarray]:
    """Yield the pictures of packets of H.264, (H, W, 3) uint8 BGR, as PyAV decodes them."""
    context = av.CodecContext.create('h264', 'r')
    context.thread_count = len(os.sched_getaffinity(0))
    for data in [*packets, None]:
        for frame in context.decode(data and av.Packet(data)):
            yield frame.to_ndarray(format='bgr24')


def write(pictures: Iterable[np.ndarray], out: Path, options: argparse.Namespace) -> None:
    """Write pictures with OpenCV."""
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(out / f'{number}.{options.format}'), picture)


def decode_and_write(messages: Iterable[np.ndarray], kind: str, out: Path,
                     options: argparse.Namespace) -> None:
    """Decode messages and write them with OpenCV alone."""
    for number, data in enumerate(messages):
        if CODECS[kind]:
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        else:
            picture = data.reshape(*options.size, 3)
            if kind == 'rgb8':
                picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(out / f'{number}.{options.format}'), picture)


if __name__ == '__main__':
    main()
