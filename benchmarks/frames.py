"""
Measure how fast `univseg frames` is beside OpenCV's bare decoding and writing.

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

import cv2
import numpy as np
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
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
    print(f'{options.count} frames of {options.size[0]}×{options.size[1]} → {options.format}, '
          f'median of {options.repeats} runs, CPU cores: {options.cores}:\n\n'
          '| bag | univseg frames, frames/s | OpenCV alone, from memory | ratio | OpenCV, read by '
          'rosbags | ratio |\n|---|--:|--:|--:|--:|--:|')
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
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
    parser.add_argument('--folder', type=Path, help="for the bags; the system's own if left out")
    return parser.parse_args()


def size(text: str) -> tuple[int, int]:
    """Return the width and height of WIDTHxHEIGHT."""
    width, height = map(int, text.split('x'))
    return width, height


def make_pictures(count: int, width: int, height: int) -> list[np.ndarray]:
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
    """Write a bag of images, 30 a second."""
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
                message = types[type_](header, size[1], size[0], kind, 0, 3 * size[0], data)
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
    assert report.counts[bag.name, TOPIC]['kept'] == options.count, report.text()


def decode_and_write(messages: Iterable[np.ndarray], kind: str, out: Path,
                     options: argparse.Namespace) -> None:
    """Decode messages and write them with OpenCV alone."""
    for number, data in enumerate(messages):
        if CODECS[kind]:
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
        else:
            picture = data.reshape(options.size[1], options.size[0], 3)
            if kind == 'rgb8':
                picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(out / f'{number}.{options.format}'), picture)


if __name__ == '__main__':
    main()
