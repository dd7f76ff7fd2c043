"""
Measure how the node follows a drive that changes place.

    python benchmarks/places.py MODEL outdoor=FOLDER indoor=FOLDER --changes 200

The node is a process, with active_domains auto; images of the folders are its camera, one after
another as fast as it takes them, in stays of --frames images, each of another place than the one
before. What counts is each image's domain as its mask's topic tells. A change may take as many
frames as `auto_frames` and `auto_switch` allow; masks of the old place after that are faults, and
so is leaving the right domain where the place has not changed.
"""

import argparse
import itertools
import json
import math
from pathlib import Path
import random
import sys
import tempfile
import time

from measured_node.processes import DEADLINE, running_node, stamp_of, stay_alone
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from univseg_core.inference.domain_decision import DecisionRule
from univseg_core.pictures.images import read_image
from univseg_core.pictures.picture_files import image_files
from univseg_ros.messages import rgb_message

ALLOWED = math.ceil(DecisionRule.frames * DecisionRule.switch) - 1
"""Frames of a new place that may still be published as the old one."""


class Drive:
    """A camera that goes from place to place, and what the node publishes of its images."""

    def __init__(self, domains: list[str]):
        self.node = rclpy.create_node('drive')
        self.camera = self.node.create_publisher(Image, 'image', QoSProfile(depth=1))
        self.masks: dict[int, list[str]] = {}
        self.told: dict[int, dict] = {}
        self.number = 0
        for name in domains:
            self.node.create_subscription(
                Image, f'univseg/{name}/mask', lambda message, name=name: self.masks.setdefault(
                    stamp_of(message), []).append(name), QoSProfile(depth=100))
        self.node.create_subscription(String, 'univseg/recognition', self._hear,
                                      QoSProfile(depth=100))

    def _hear(self, message: String) -> None:
        told = json.loads(message.data)
        self.told[told['stamp']] = told

    def show(self, picture: Path) -> int:
        """Publish a picture until the node has seen it; return its stamp."""
        self.number += 1
        message = rgb_message(read_image(picture), Header(frame_id='camera'))
        message.header.stamp.sec = self.number
        stamp = stamp_of(message)
        end = time.monotonic() + DEADLINE
        while stamp not in self.told:
            if time.monotonic() > end:
                sys.exit(f'{picture}: nothing came back')
            self.camera.publish(message)
            pause = time.monotonic() + 1.0
            while stamp not in self.told and time.monotonic() < pause:
                rclpy.spin_once(self.node, timeout_sec=0.05)
        return stamp


def main() -> int:
    """Drive, and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', type=Path, help='a model file with evidence, exported or not')
    parser.add_argument('places', nargs='+', metavar='DOMAIN=FOLDER')
    parser.add_argument('--changes', type=int, default=200, help='(default: %(default)s)')
    parser.add_argument('--frames', type=int, default=30,
                        help='images from one change to the next (default: %(default)s)')
    options = parser.parse_args()
    places = {name: image_files(Path(folder)) for name, _, folder in
              (place.partition('=') for place in options.places)}
    stay_alone()
    rclpy.init()
    chance = random.Random(0)
    truth: list[tuple[int, str, int]] = []
    drive = Drive(list(places))
    with tempfile.TemporaryDirectory() as folder, running_node(
            'model', Path(folder), "active_domains:=['auto']", model=options.model):
        place = None
        for stay in range(options.changes + 1):
            place = chance.choice([name for name in places if name != place])
            pictures = chance.sample(places[place], min(options.frames, len(places[place])))
            for since, picture in enumerate(itertools.islice(
                    itertools.cycle(pictures), options.frames)):
                truth.append((drive.show(picture), place, since))
            print(f'\r{stay} of {options.changes} changes', end='', file=sys.stderr, flush=True)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            rclpy.spin_once(drive.node, timeout_sec=0.05)
    print(report(truth, drive))
    rclpy.try_shutdown()
    return 0


def report(truth: list[tuple[int, str, int]], drive: Drive) -> str:
    """Return what came of a drive, in words; `truth` has stamps, places and frames in them."""
    single = sum(max(told := drive.told[stamp]['probabilities'], key=told.get) == place
                 for stamp, place, _ in truth)
    familiar = sum(drive.told[stamp]['unfamiliarity'] <= 1 for stamp, *_ in truth)
    late = [since for stamp, place, since in truth
            if any(name != place for name in drive.masks.get(stamp, ()))]
    beyond = sum(since >= ALLOWED for since in late)
    right = [drive.told[stamp]['domain'] == place for stamp, place, _ in truth]
    left = sum(was and not is_ and since > 0 for (was, is_), (*_, since) in zip(
        itertools.pairwise(right), truth[1:], strict=True))
    without = sum(drive.told[stamp]['domain'] is None for stamp, *_ in truth)
    changes = sum(before[1] != after[1] for before, after in itertools.pairwise(truth))
    foreign = sum(drive.masks.get(stamp, []) != ([drive.told[stamp]['domain']]
                                                 if drive.told[stamp]['domain'] else [])
                  for stamp, *_ in truth)
    return (f'{len(truth)} frames, {changes} changes of place\n'
            f'single frames right: {100 * single / len(truth):.2f} %; called familiar: '
            f'{100 * familiar / len(truth):.2f} %\n'
            f'masks under the old domain: {len(late)}, of which {beyond} beyond the {ALLOWED} '
            f'frames that a change may take\n'
            f'times that the right domain was left without a change of place: {left}\n'
            f'frames without a domain: {without}\n'
            f'frames whose masks are not those of the decided domain: {foreign}')


if __name__ == '__main__':
    sys.exit(main())
