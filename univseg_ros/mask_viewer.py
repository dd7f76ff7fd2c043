"""Write the masks that a segmentation node publishes, and their images, as pictures."""

import sys

from univseg_ros import start

if __name__ == '__main__':  # before what takes seconds to import
    sys.exit(start.run('mask_viewer'))
else:
    start.require_ros()

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
import re
import time

import rclpy
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from univseg_core.commands.options import whole
from univseg_core.domains import Domain, NAME_PATTERN
from univseg_core.files.records import parse_json
from univseg_core.pictures.image_messages import nanoseconds
from univseg_ros.arguments import matching
from univseg_ros.camera_topics import segmentation_nodes
from univseg_ros.image_input import ImageInput, TRANSPORTS
from univseg_ros.mask_pictures import domain_of_label_map, Matcher, PictureWriter
from univseg_ros.qos import LATCHED_QOS
from univseg_ros.signals import ros_until_signal
from univseg_ros.timers import steady_timer

NODE_NAME = 'mask_viewer'
DEPTH = 10
"""Messages that a subscription keeps while others are handled."""

WATCH_PERIOD = 1.0
"""Seconds between two looks at whether something came."""

SILENCE = 5.0
"""Seconds without a mask after which it is said what is missing."""

NODE_PATTERN = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)
MASK_QOS = QoSProfile(depth=DEPTH, reliability=getattr(
    ReliabilityPolicy, 'BEST_AVAILABLE', ReliabilityPolicy.BEST_EFFORT))  # Humble has none

DESCRIPTION = """\
Write what a segmentation node makes of a camera's images as PNG files. For each mask of its active
domains whose image was seen, too, there will be in DIR/DOMAIN:
  STAMP_image.png    the image
  STAMP_index.png    the mask as it came: class indices, 255 is unknown
  STAMP_mask.png     the mask in the colours of the classes
  STAMP_overlay.png  both, with the names of the classes below
Where masks come faster than they can be written, the newest is taken."""

EXAMPLES = """\
examples:
  the node univseg, until Ctrl-C:
    ros2 run univseg_ros mask_viewer --out seen --ros-args -r image:=/camera/image_raw
  twenty masks of one domain of a node in a namespace, whose camera sends JPEG:
    ros2 run univseg_ros mask_viewer --out seen --node /robot1/univseg --domain indoor \\
      --count 20 --image-transport compressed --ros-args -r image:=/robot1/camera/image_raw"""


class MaskViewer(Node):
    """
    Subscribe to the image and to the masks of a segmentation node's active domains.

    `node` is the segmentation node's name, `domains` those of interest (none: all). Pairs that
    `matcher` finds go to `writer`. When nothing comes for a while, the log says what is missing.
    """

    def __init__(self, node: str, domains: Sequence[str], transport: str, matcher: Matcher,
                 writer: PictureWriter):
        super().__init__(NODE_NAME)
        # A name that begins with / is absolute; any other is in this node's namespace.
        self._announcement = self.resolve_topic_name(f'{node}/active_domains')
        self._node = self._announcement.removesuffix('/active_domains')
        self._wanted = domains
        self._matcher = matcher
        self._writer = writer
        self._active: list[str] | None = None
        self._followed: set[str] = set()
        self._domains: dict[str, Domain] = {}
        self._said = ''
        self._last_mask = self._last_pair = time.monotonic()
        self.create_subscription(String, self._announcement, self._follow_domains, LATCHED_QOS)
        self._input = ImageInput(self, transport, 'auto', DEPTH, self._take_image, lambda: SILENCE)
        steady_timer(self, WATCH_PERIOD, self._watch)

    def _follow_domains(self, message: String) -> None:
        try:
            names = parse_json(message.data)
            if not all(NAME_PATTERN.fullmatch(name) for name in names):
                raise ValueError('expected names of domains')
        except (TypeError, ValueError) as error:
            self.get_logger().error(f'{self._announcement}: {message.data[:200]!r}: {error}')
            return
        self._active = names
        for name in set(self._watched()) - self._followed:
            self._followed.add(name)
            self.create_subscription(String, f'{self._node}/{name}/label_map',
                                     partial(self._take_labels, name), LATCHED_QOS)

    def _watched(self) -> list[str]:
        return [name for name in self._active or () if not self._wanted or name in self._wanted]

    def _take_labels(self, name: str, message: String) -> None:
        try:
            domain = domain_of_label_map(message.data)
        except ValueError as error:
            self.get_logger().error(f'{self._node}/{name}/label_map: {error}')
            return
        if name not in self._domains:  # a mask means nothing before
            self.create_subscription(Image, f'{self._node}/{name}/mask',
                                     partial(self._take_mask, name), MASK_QOS)
            self.get_logger().info(f'watching {self._node}/{name}/mask')
        self._domains[name] = domain

    def _take_image(self, image: Image | CompressedImage) -> None:
        if not nanoseconds(image.header.stamp):
            self.get_logger().warning(
                'images come without a stamp: a mask may be shown on an image that is not its own',
                throttle_duration_sec=60)
        for name, mask in self._matcher.add_image(image).items():
            self._pass_on(name, image, mask)

    def _take_mask(self, name: str, mask: Image) -> None:
        self._last_mask = time.monotonic()
        image = self._matcher.add_mask(name, mask)
        if image is not None:
            self._pass_on(name, image, mask)

    def _pass_on(self, name: str, image: Image | CompressedImage, mask: Image) -> None:
        self._last_pair = time.monotonic()
        self._said = ''
        self._writer.put(self._domains[name], image, mask)

    def _watch(self) -> None:
        if time.monotonic() - self._last_pair < SILENCE:
            return
        missing = self._missing()
        if missing and missing != self._said:
            self._said = missing
            self.get_logger().warning(f'no mask for {SILENCE:.0f} s: {missing}')

    def _missing(self) -> str:
        """Say what keeps masks from coming; nothing where it is the image's input that says it."""
        if self._active is None:
            return self._missing_node()
        if not self._watched():
            return (f'{" and ".join(self._wanted)} not active in {self._node}, only '
                    f'{", ".join(self._active) or "nothing"}; ros2 param set {self._node} '
                    f'active_domains "{list(self._wanted)}" switches')
        if not any(name in self._domains for name in self._watched()):
            return f'{self._node} has published no label_map of {", ".join(self._watched())}'
        if self._input.silence():
            return ''
        if time.monotonic() - self._last_mask < SILENCE:
            return (f'masks come, but the images on {self._input.topic} have other stamps: does '
                    f'{self._node} see the same camera? Are images lost on the way (see '
                    'docs/setups.md on large images)?')
        return (f'images come, but {self._node} sends no masks of {", ".join(self._watched())}: '
                f'is it active (ros2 lifecycle get {self._node}), does it subscribe to '
                f'{self._input.topic}? Its log and /diagnostics say more')

    def _missing_node(self) -> str:
        if self.count_publishers(self._announcement):
            return (f'{self._node} is configured, but not active; ros2 lifecycle set {self._node} '
                    'activate')
        names = {f'{namespace.rstrip("/")}/{name}'
                 for name, namespace in self.get_node_names_and_namespaces()}
        if self._node in names:
            return (f'{self._node} is not configured; its log says why, and ros2 lifecycle set '
                    f'{self._node} configure tries again')
        others = sorted(node.removesuffix('/') for node in segmentation_nodes(self)
                        if self.count_publishers(f'{node}active_domains'))
        if others:
            return f'there is no node {self._node}, but {", ".join(others)}: --node {others[0]}'
        return f'there is no node {self._node}, nor another segmentation node'


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options that the command line gives."""
    parser = argparse.ArgumentParser(
        'mask_viewer', description=DESCRIPTION, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR',
                        help='folder of the pictures; made where it is not there')
    parser.add_argument('--domain', type=matching(NAME_PATTERN), nargs='+', default=[],
                        metavar='NAME', help='domains of interest (default: all that are active)')
    parser.add_argument('--count', type=whole(1), metavar='N',
                        help='end after N masks (default: at Ctrl-C)')
    parser.add_argument('--node', type=matching(NODE_PATTERN), default='univseg', metavar='NAME',
                        help='name of the segmentation node, with its namespace '
                        '(default: univseg)')
    parser.add_argument('--image-transport', choices=tuple(TRANSPORTS), default='raw',
                        help='raw subscribes to image, compressed to image/compressed; remap '
                        'image to move both (default: raw)')
    return parser.parse_args(arguments)


def view(options: argparse.Namespace) -> None:
    """View until all is written or ROS is shut down; raise OSError where writing fails."""
    writer = PictureWriter(options.out, options.count)
    matcher = Matcher()
    try:
        viewer = MaskViewer(options.node, options.domain, options.image_transport, matcher,
                            writer)
        try:
            rclpy.spin_until_future_complete(viewer, writer.done)
        finally:
            viewer.destroy_node()
    finally:
        writer.close()
        # Not the node's logger, which after Ctrl-C would complain that it cannot reach rosout.
        get_logger(f'{NODE_NAME}.end').info(summary(options.out, matcher, writer))
    writer.done.result()


def summary(out: Path, matcher: Matcher, writer: PictureWriter) -> str:
    """Return what became of the masks."""
    matcher.give_up()
    counts = ', '.join(f'{name} {count}' for name, count in sorted(writer.written.items()))
    parts = [f'wrote {sum(writer.written.values())} masks to {out}']
    if counts:
        parts[0] += f' ({counts})'
    if writer.replaced:
        parts.append(f'{writer.replaced} were left out, since newer ones came while others were '
                     'written')
    if matcher.unmatched:
        parts.append(f'of {matcher.unmatched} the image was not seen or already forgotten')
    if writer.unusable:
        parts.append(f'{writer.unusable} could not be used')
    return '; '.join(parts)


def main(args: list[str] | None = None) -> int:
    """View until the end or until interrupted; return the exit code."""
    options = parse_arguments(remove_ros_args(args)[1:])
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        with ros_until_signal(args):
            view(options)
    except OSError as error:
        get_logger(NODE_NAME).fatal(f'{options.out}: pictures cannot be written: {error}')
        return 1
    return 0
