"""
What the recorder costs and loses, and what a kill leaves of its bags.

  python benchmarks/recorder.py throughput --directory /data/bench   cameras recorded: lost, CPU
  python benchmarks/recorder.py kill --directory /data/bench         kill -9 at random moments

Cameras and recorder are processes of their own; all use the package's Fast DDS profile, unless
another one is set. Images are rgb8. Bags go below --directory, into a folder that is removed at
the end; 60 s of two cameras of 1280×720 at 30 Hz take 10 GB.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import hashlib
import os
from pathlib import Path
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measured_node.processes import (
    cpu_seconds,
    DEADLINE,
    resident_megabytes,
    stamp_of,
    stay_alone,
)
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from univseg_core.bags.reading import Bag
from univseg_core.bags.topics import Topic
from univseg_core.recording.serialized_image import SerializedImage
from univseg_ros.messages import rgb_message

SETTLED = 10**9
"""Nanoseconds after which an image that was sent must survive a kill."""


def run_camera(topic: str, size: tuple[int, int], rate: float, seconds: float,
               reliability: str) -> None:
    """Publish images once there is a subscriber; print each one's stamp as it was sent."""
    rclpy.init()
    node = Node(topic.strip('/').replace('/', '_'))
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, topic, qos)
    width, height = size
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    message = rgb_message(picture, Header(frame_id='camera'))
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)
    begin = time.monotonic()
    for index in range(round(rate * seconds)):
        time.sleep(max(0.0, begin + index / rate - time.monotonic()))
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        print(stamp_of(message), flush=True)
    time.sleep(2.0)


def start(*arguments: object, **options) -> subprocess.Popen:
    """Start this file as another process."""
    return subprocess.Popen([sys.executable, __file__, *map(str, arguments)], **options)


def start_camera(topic: str, options: argparse.Namespace, log: Path) -> subprocess.Popen:
    """Start a camera as a process; the stamps that it has sent go to a file."""
    with log.open('w') as output:
        return start('camera', topic, *options.size, options.rate, options.seconds,
                     options.reliability, stdout=output)


@contextmanager
def recorder(folder: Path, *parameters: str) -> Iterator[subprocess.Popen]:
    """Run the recorder as a process; its log goes to a file."""
    arguments = [item for value in (f'directory:={folder / "bags"}', *parameters)
                 for item in ('-p', value)]
    with (folder / 'recorder.log').open('w') as output:
        process = subprocess.Popen(
            [sys.executable, '-m', 'univseg_ros.bag_recorder', '--ros-args', *arguments],
            stdout=output, stderr=output)
    try:
        wait_for(lambda: 'active; policy' in log_of(folder) or process.poll() is not None, folder)
        yield process
    finally:
        process.kill()
        process.wait()


def log_of(folder: Path) -> str:
    """Return what the recorder has said."""
    return (folder / 'recorder.log').read_text()


def wait_for(condition, folder: Path) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f'waited {DEADLINE:.0f} s in vain; the recorder says:\n{log_of(folder)}')
        time.sleep(0.05)


def own_pid(process: subprocess.Popen) -> int:
    """Return the process that records: PyPI's rclpy starts the interpreter once more."""
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    return int(children[0]) if children else process.pid


def sent_stamps(log: Path) -> list[int]:
    """Return the stamps that a camera has sent."""
    return [int(line) for line in log.read_text().split()]


def recorded_stamps(bag: Path) -> dict[str, list[int]]:
    """Return the stamps of the images in a finished bag by topic, read by rosbags."""
    stamps = {}
    with AnyReader([bag]) as reader:
        for connection, moment, data in reader.messages():
            frame = SerializedImage(Topic(connection.topic, connection.msgtype), moment, moment,
                                    data)
            stamps.setdefault(connection.topic, []).append(frame.header()[0])
    return stamps


def measure_throughput(folder: Path, options: argparse.Namespace) -> None:
    """Record cameras; print what was lost, and the CPU time a second of recording."""
    topics = [f'/camera_{index}/image_raw' for index in range(options.cameras)]
    for number in range(options.repeat):
        with recorder(folder, 'min_free:=0', *options.parameter) as process:
            pid = own_pid(process)
            logs = [folder / f'{index}.stamps' for index in range(options.cameras)]
            cameras = [start_camera(topic, options, log)
                       for topic, log in zip(topics, logs, strict=True)]
            wait_for(lambda logs=logs: all(map(sent_stamps, logs)), folder)
            began, cpu = time.monotonic(), cpu_seconds(pid)
            while any(len(sent_stamps(log)) < options.rate * options.seconds for log in logs):
                time.sleep(0.2)
            cpu, took = cpu_seconds(pid) - cpu, time.monotonic() - began
            for camera in cameras:
                camera.wait(DEADLINE)
            resident = resident_megabytes(pid)
            os.kill(pid, signal.SIGINT)
            process.wait(DEADLINE)
        sent = {topic: sent_stamps(log) for topic, log in zip(topics, logs, strict=True)}
        bags = list((folder / 'bags').iterdir())
        size = sum(path.stat().st_size for bag in bags for path in bag.iterdir())
        got = [stamps for bag in bags for stamps in [recorded_stamps(bag)]]
        lost = {topic: len(set(stamps) - {stamp for each in got for stamp in each.get(topic, ())})
                for topic, stamps in sent.items()}
        twice = sum(len(each) - len(set(each)) for bag in got for each in bag.values())
        print(f'{number + 1}: {sum(map(len, sent.values()))} images sent in {took:.1f} s, '
              f'{sum(lost.values())} lost, {twice} twice; {size / 1e6:.0f} MB; CPU '
              f'{100 * cpu / took:.1f} % of a core, {resident:.0f} MB of memory')
        if any(lost.values()):
            moments = [f'{(stamp - stamps[0]) / 1e9:.2f}'
                       for topic, stamps in sent.items() for stamp in stamps
                       if not any(stamp in each.get(topic, ()) for each in got)]
            print(f'   lost at these seconds: {", ".join(moments[:20])} …')
        print('   ' + log_of(folder).strip().splitlines()[-1], flush=True)
        shutil.rmtree(folder / 'bags')


def measure_kills(folder: Path, options: argparse.Namespace) -> None:
    """Kill the recorder again and again; print what each kill cost."""
    seed = random.Random(options.seed)
    earlier, losses, unfinished, missing, unequal = {}, [], 0, 0, 0
    for number in range(options.kills):
        killed, sent = record_and_kill(folder, options, seed.uniform(1.0, 5.0))
        bag = next(path for path in (folder / 'bags').iterdir() if path.name not in earlier)
        times, read = {}, 0
        with Bag(bag) as opened:
            for message in opened.messages(opened.topics()):
                times[message.topic] = message.time
                read += 1
            damage = opened.damage
        losses.append(max((killed - last) / 1e9 for last in times.values()))
        # The next start finishes it.
        with recorder(folder, 'min_free:=0') as process:
            os.kill(own_pid(process), signal.SIGINT)
            process.wait(DEADLINE)
        unfinished += 'it is now, with' not in log_of(folder)
        recorded = recorded_stamps(bag)
        count = sum(map(len, recorded.values()))
        unequal += count != read
        gaps = sum(len({stamp for stamp in stamps if stamp < killed - SETTLED}
                       - set(recorded.get(topic, ()))) for topic, stamps in sent.items())
        missing += gaps
        earlier[bag.name] = digest_of(bag)
        print(f'{number + 1}: opens with {read} images of {len(times)} topics, the last '
              f'{losses[-1]:.3f} s before the kill, damage told {len(damage)} times; with {count} '
              f'by rosbags when it was finished; {gaps} missing of those sent earlier than 1 s '
              'before the kill', flush=True)
    changed = [name for name, digest in earlier.items()
               if digest != digest_of(folder / 'bags' / name)]
    print(f'{options.kills} kills: lost {statistics.median(losses):.3f} s in the median, '
          f'{max(losses):.3f} s at most; {missing} missing of those sent earlier than 1 s before '
          f'the kill; {unfinished} bags not finished, {unequal} with another number of images '
          f'when they were, {len(changed)} changed by later kills')


def record_and_kill(folder: Path, options: argparse.Namespace, seconds: float
                    ) -> tuple[int, dict[str, list[int]]]:
    """
    Record cameras, and kill the recorder when it has for some seconds.

    Return when that was, in nanoseconds, and the stamps that were sent by topic.
    """
    options.seconds = 3600.0
    logs = {f'/camera_{index}/image_raw': folder / f'{index}.stamps'
            for index in range(options.cameras)}
    with recorder(folder, 'min_free:=0', 'split_time:=2.0', *options.parameter) as process:
        # New ones each time: to those of a killed process, Fast DDS may not send again.
        cameras = [start_camera(topic, options, log) for topic, log in logs.items()]
        try:
            wait_for(lambda: all(map(sent_stamps, logs.values())), folder)
            time.sleep(seconds)
            pid = own_pid(process)
            killed = time.time_ns()
            os.kill(pid, signal.SIGKILL)
            process.wait()
        finally:
            for camera in cameras:
                camera.kill()
                camera.wait()
    return killed, {topic: sent_stamps(log) for topic, log in logs.items()}


def digest_of(bag: Path) -> str:
    """Return a digest of all of a bag's files."""
    digest = hashlib.sha256()
    for path in sorted(bag.iterdir()):
        digest.update(path.name.encode())
        with path.open('rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=('throughput', 'kill'))
    parser.add_argument('--directory', type=Path, required=True,
                        help='an existing folder on the disk to record to')
    parser.add_argument('--cameras', type=int, default=2, help='(default: %(default)s)')
    parser.add_argument('--size', type=int, nargs=2, default=(1280, 720),
                        metavar=('WIDTH', 'HEIGHT'), help='of the images (default: 1280 720)')
    parser.add_argument('--rate', type=float, default=30.0, help='in Hz (default: %(default)s)')
    parser.add_argument('--seconds', type=float, default=60.0, help='(default: %(default)s)')
    parser.add_argument('--reliability', choices=('reliable', 'best_effort'), default='reliable',
                        help='of the cameras (default: %(default)s)')
    parser.add_argument('--repeat', type=int, default=1,
                        help='of throughput (default: %(default)s)')
    parser.add_argument('--kills', type=int, default=20, help='(default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0,
                        help='of the moments of the kills (default: %(default)s)')
    parser.add_argument('--parameter', action='append', default=[], metavar='NAME:=VALUE',
                        help='of the recorder, several times if need be')
    options = parser.parse_args(arguments)
    stay_alone()
    os.environ.setdefault('PYTHONUNBUFFERED', '1')
    with tempfile.TemporaryDirectory(prefix='recorder-', dir=options.directory) as folder:
        {'throughput': measure_throughput, 'kill': measure_kills}[options.what](
            Path(folder), options)


if __name__ == '__main__':
    if sys.argv[1:2] == ['camera']:
        topic, width, height, rate, seconds, reliability = sys.argv[2:]
        run_camera(topic, (int(width), int(height)), float(rate), float(seconds), reliability)
    else:
        main(sys.argv[1:])
