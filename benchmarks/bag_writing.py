"""
Measure the recorder's MCAP writer beside that of the package mcap (pip install mcap).

All write the same messages, in turns, into chunks of 1 MB; CPU time is the process's and the
system's for it, the best of all turns. Then processes that write messages of 1 MB at 60 Hz, and
flush as often as the recorder, are killed at random moments.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
import random
import subprocess
import sys
import tempfile
import time

import numpy as np
from univseg_core.bags.mcap_writer import CHUNK_BYTES, McapWriter
from univseg_core.bags.reading import Bag
from univseg_core.bags.topics import definition_of, Topic
from univseg_core.recording.recorder import FLUSH_PERIOD

TOPIC = Topic('/camera', 'sensor_msgs/msg/Image')
LOADS = {'500 of 1 MB': (500, 10**6), '20 000 of 2 kB': (20_000, 2000)}


class PackageWriter:
    """The package's writer, with the interface of ours."""

    def __init__(self, path: Path, compression: str = '', checksums: bool = True):
        from mcap.writer import CompressionType, Writer
        self._file = path.open('xb')
        self._writer = Writer(
            self._file, CHUNK_BYTES, CompressionType['ZSTD' if compression else 'NONE'],
            enable_crcs=checksums)
        self._writer.start('ros2')
        self.flush = self._writer.flush

    def add_topic(self, topic: Topic) -> None:
        """Note a topic, before its first message."""
        schema = self._writer.register_schema(
            topic.type, 'ros2msg', definition_of(topic.type)[0].encode())
        self._channel = self._writer.register_channel(topic.name, 'cdr', schema)

    def write(self, topic: str, moment: int, published: int, data: bytes) -> None:
        """Add a message."""
        self._writer.add_message(self._channel, moment, data, published)

    def close(self) -> None:
        """Write what has been gathered, and the summary."""
        self._writer.finish()
        self._file.close()


WRITERS: dict[str, Callable] = {
    'ours': McapWriter, 'mcap': PackageWriter,
    'mcap without checksums': lambda *arguments: PackageWriter(*arguments, checksums=False)}


def measure_speed(folder: Path, turns: int) -> None:
    """Print a table of the CPU time of writing, in seconds and in megabytes of messages each."""
    print(f'| messages | compression | {" | ".join(WRITERS)} |\n|---|---|{"--:|" * len(WRITERS)}')
    pixels = np.random.default_rng(0).integers(0, 16, 10**7, np.uint8).tobytes()
    for load, (count, size) in LOADS.items():
        pieces = [pixels[at:at + size] for at in range(0, len(pixels), size)]
        messages = [pieces[number % len(pieces)] for number in range(count)]
        for compression in ('', 'zstd'):
            best = dict.fromkeys(WRITERS, float('inf'))
            for _ in range(turns):
                for name, writer in WRITERS.items():
                    best[name] = min(best[name], cpu_seconds(
                        lambda writer=writer, compression=compression, messages=messages: write(
                            writer(folder / 'file.mcap', compression), messages)))
                    (folder / 'file.mcap').unlink()
            print(f'| {load} | {compression or "none"} | ' + ' | '.join(
                f'{seconds:.3f} s, {count * size / 1e6 / seconds:.0f} MB/s'
                for seconds in best.values()) + ' |', flush=True)


def write(file: McapWriter | PackageWriter, messages: list[bytes]) -> None:
    """Write messages of one topic into a file, and close it."""
    file.add_topic(TOPIC)
    for number, data in enumerate(messages):
        file.write(TOPIC.name, number, number, data)
    file.close()


def cpu_seconds(action: Callable[[], None]) -> float:
    """Return the CPU time of an action."""
    began = time.process_time()
    action()
    return time.process_time() - began


def measure_kills(folder: Path, kills: int) -> None:
    """Print how many of the messages that were written are not readable after a kill."""
    for name in WRITERS:
        costs = []
        for number in range(kills):
            path = folder / f'{name}_{number}.mcap'
            child = subprocess.Popen([sys.executable, __file__, '--victim', name, str(path)],
                                     stdout=subprocess.PIPE, text=True)
            written = [child.stdout.readline()]  # it has begun
            time.sleep(random.Random(number).uniform(0.5, 2.0))
            child.kill()
            written += child.stdout.read().splitlines()
            with Bag(path) as bag:
                costs.append(int(written[-1]) - len(list(bag.messages([TOPIC.name]))))
            path.unlink()
        print(f'{name}: {kills} kills cost {min(costs)} to {max(costs)} messages')


def run_victim(name: str, path: str) -> None:
    """Write until the kill comes; print how many messages were written."""
    file, data = WRITERS[name](Path(path)), bytes(10**6)
    file.add_topic(TOPIC)
    flush = time.monotonic()
    for number in range(10_000):
        file.write(TOPIC.name, number, number, data)
        print(number + 1, flush=True)
        if time.monotonic() > flush:
            file.flush()
            flush += FLUSH_PERIOD
        time.sleep(1 / 60)


def main() -> None:
    """Measure speed and kills."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('--folder', type=Path, help='where files are written for a while')
    parser.add_argument('--turns', type=int, default=5, help='of each writer')
    parser.add_argument('--kills', type=int, default=10, help='of each writer')
    parser.add_argument('--victim', nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.victim:
        run_victim(*options.victim)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        measure_speed(Path(name), options.turns)
        measure_kills(Path(name), options.kills)


if __name__ == '__main__':
    main()
