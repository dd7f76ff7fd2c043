"""The demo's last part: node and camera as processes, and a switch while the camera streams."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import logging
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from univseg_core.inference.segmenter import Segmenter
from univseg_core.pictures.image_messages import decode, nanoseconds
from univseg_core.pictures.images import read_image

log = logging.getLogger(__name__)

RATE = 5.0
"""Frames a second that the camera streams at most."""

SPARE = 5
"""The camera's period is at least so many times as long as a frame takes."""

PROCESSING = 10**9
"""Nanoseconds within which a frame is taken to be processed."""

DEADLINE = 60.0
"""Seconds to wait for anything of ROS before giving up."""


class DemoError(RuntimeError):
    """Something did not come back as promised."""


@dataclass
class SwitchRecord:
    """
    What an observer saw: images by stamp, masks by stamp for each domain, and when it switched.

    `streamed` is how many images the camera had to send, at a `rate` a second. Stamps are in
    nanoseconds; `asked` and `answered` are the times of the parameter call.
    """

    streamed: int
    rate: float = RATE
    images: dict[int, Image] = field(default_factory=dict)
    masks: dict[str, dict[int, Image]] = field(default_factory=dict)
    first_mask_after: int = 0
    asked: int = 0
    answered: int = 0

    def keep_image(self, image: Image) -> None:
        """Keep an image, the first one of its stamp."""
        self.images.setdefault(nanoseconds(image.header.stamp), image)

    def check(self, model: Path) -> str:
        """Return a table of what came back; raise DemoError where it is not as promised."""
        expect(len(self.images) == self.streamed,
               f'{len(self.images)} images came; {self.streamed} were streamed')
        for name, masks in self.masks.items():
            foreign = sorted(masks.keys() - self.images.keys())
            expect(not foreign, f'masks of {name} with stamps that no image has: {foreign}')
        segmenter = Segmenter.load(model)
        agreement = []
        for stamp, image in self.images.items():
            found = [name for name, masks in self.masks.items() if stamp in masks]
            expect(len(found) == 1, f'frame {stamp}: masks of {found}; expected one domain')
            mask = self.masks[found[0]][stamp]
            expect((mask.height, mask.width, mask.header.frame_id)
                   == (image.height, image.width, image.header.frame_id),
                   f'frame {stamp}: its mask has another size or frame_id')
            # A frame taken before the switch may be processed after it.
            possible = {'outdoor': stamp <= self.answered,
                        'indoor': stamp >= self.asked - PROCESSING}
            expected = [name for name in possible if possible[name]]
            expect(found[0] in expected,
                   f'frame {stamp}: mask of {found[0]}; expected {" or ".join(expected)}')
            offline = segmenter(decode(image), found)[found[0]].mask
            agreement.append((decode(mask)[..., 0] == offline).mean())
        expect(min(agreement) > 0.999, 'a mask differs from the one computed without ROS')
        before = {name: sum(s < self.asked for s in masks) for name, masks in self.masks.items()}
        after = {name: len(masks) - before[name] for name, masks in self.masks.items()}
        lines = ['| masks that came back | ' + ' | '.join(self.masks) + ' |',
                 '|---|' + '--:|' * len(self.masks),
                 '| frames before the switch | ' + ' | '.join(map(str, before.values())) + ' |',
                 '| frames after the switch | ' + ' | '.join(map(str, after.values())) + ' |', '',
                 f'{len(self.images)} frames streamed, {len(self.images)} masks, none lost, none '
                 f'twice; {100 * np.mean(agreement):.2f} % of their pixels as computed without '
                 f'ROS.',
                 f'The parameter call took {(self.answered - self.asked) / 1e6:.0f} ms; the first '
                 f'indoor mask came {(self.first_mask_after - self.asked) / 1e6:.0f} ms after it '
                 f'was made, at {self.rate:.1f} frames a second.']
        return '\n'.join(lines)


def expect(condition: bool, failure: str) -> None:
    """Raise DemoError unless a condition holds."""
    if not condition:
        raise DemoError(failure)


def switch_heads(model: Path, frames: Path) -> SwitchRecord:
    """Start node and camera as processes, switch heads half-way through, and watch."""
    # A ROS network of its own, on this machine only.
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    images = sorted(frames.iterdir())
    total = len(images)
    seen = SwitchRecord(total, steady_rate(model, images[:4]),
                        masks={'outdoor': {}, 'indoor': {}})
    rclpy.init()
    observer = Node('demo_observer')
    try:
        qos = QoSProfile(depth=total)
        observer.create_subscription(Image, 'image', seen.keep_image, qos)
        for name in seen.masks:
            observer.create_subscription(
                Image, f'univseg/{name}/mask', mask_keeper(observer, seen, name), qos)
        client = observer.create_client(SetParameters, 'univseg/set_parameters')
        with process('segmentation_node', '--ros-args', '-p', f'model:={model}',
                     '-p', "active_domains:=['outdoor']",
                     '-p', 'reliability:=reliable') as node:
            spin_until(observer, lambda: observer.count_subscribers('image') == 2, node)
            with process('image_player', str(frames), '--rate', str(seen.rate),
                         '--wait-for-subscribers', '2', '--frame-id', 'demo_camera'):
                spin_until(observer, lambda: len(seen.masks['outdoor']) >= total // 2, node)
                seen.asked = now(observer)
                answer = client.call_async(SetParameters.Request(parameters=[
                    Parameter('active_domains', value=['indoor']).to_parameter_msg()]))
                spin_until(observer, answer.done, node)
                seen.answered = now(observer)
                expect(answer.result().results[0].successful, answer.result().results[0].reason)
                log.info("active_domains is now ['indoor']; the camera goes on streaming")
                spin_until(observer, lambda: len(seen.images) >= total
                           and sum(map(len, seen.masks.values())) >= total, node)
    finally:
        observer.destroy_node()
        rclpy.try_shutdown()
    return seen


def steady_rate(model: Path, images: Sequence[Path]) -> float:
    """Return the frames a second that a node keeps up with here, though it is not alone."""
    segmenter = Segmenter.load(model)
    taken = []
    for image in map(read_image, images):
        begun = time.monotonic()
        segmenter(image, ['outdoor'])
        taken.append(time.monotonic() - begun)
    return min(RATE, 1 / (SPARE * sorted(taken)[len(taken) // 2]))


def mask_keeper(observer: Node, seen: SwitchRecord, name: str) -> Callable[[Image], None]:
    """Return a callback that keeps one domain's masks."""
    def keep(message: Image) -> None:
        stamp = nanoseconds(message.header.stamp)
        expect(stamp not in seen.masks[name], f'frame {stamp}: two masks of {name}')
        seen.masks[name][stamp] = message
        if name == 'indoor' and not seen.first_mask_after:
            seen.first_mask_after = now(observer)
    return keep


def now(node: Node) -> int:
    """Return ROS time in nanoseconds."""
    return node.get_clock().now().nanoseconds


def spin_until(node: Node, condition: Callable[[], bool], watched: subprocess.Popen) -> None:
    """Spin until a condition holds; raise DemoError at the deadline or if a process ended."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        expect(watched.poll() is None, f'the node ended with exit code {watched.returncode}')
        expect(time.monotonic() < deadline, f'nothing came for {DEADLINE:.0f} s')
        rclpy.spin_once(node, timeout_sec=0.1)


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """Run one of the package's executables as a process; interrupt it at the end."""
    running = subprocess.Popen([sys.executable, '-m', f'univseg_ros.{module}', *arguments])
    try:
        yield running
    finally:
        running.send_signal(signal.SIGINT)
        try:
            running.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            running.kill()
            raise DemoError(f'{module} did not end when interrupted') from None
