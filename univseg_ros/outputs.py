"""What the node publishes of a domain."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
import json
import threading
from typing import TypeAlias

import numpy as np
from rclpy.lifecycle import LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference.segmenter import Segmentation
from univseg_core.pictures.overlay import overlay_with_legend
from univseg_ros.class_summary import class_summary
from univseg_ros.managed_node import ManagedNode
from univseg_ros.messages import compressed_mask_message, mask_message, rgb_message
from univseg_ros.qos import LATCHED_QOS
from univseg_ros.traversable import traversable_classes, traversable_mask

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = VisionClass = None  # PyPI has no wheel of it

Message: TypeAlias = Image | CompressedImage | String | CameraInfo

CameraInfoOf = Callable[[Header, tuple[int, int]], CameraInfo | None]
"""Returns the camera_info of an image of a header and a (height, width)."""


@dataclass(frozen=True)
class Frame:
    """
    What a domain's outputs of one image (H, W, 3) uint8 RGB are made of.

    `traversable` are the indices of the classes that `~/DOMAIN/traversable` shows.
    """

    domain: Domain
    header: Header
    image: np.ndarray
    segmentation: Segmentation
    traversable: Sequence[int]
    camera_info_of: CameraInfoOf

    def confidence_message(self) -> Image:
        """Return the confidence as an image."""
        assert self.segmentation.confidence is not None  # since it was asked for
        return mask_message(self.segmentation.confidence, self.header)

    def overlay_message(self) -> Image:
        """Return the image, tinted by the mask."""
        return rgb_message(
            overlay_with_legend(self.image, self.segmentation.mask, self.domain), self.header)

    def traversable_message(self) -> Image | None:
        """Return where one of the traversable classes is; None where the domain has none."""
        if not self.traversable:
            return None
        return mask_message(traversable_mask(self.segmentation.mask, self.traversable),
                            self.header)


@dataclass(frozen=True)
class Output:
    """
    What is published of each frame on a topic: a type, and what makes a message of a frame.

    Nothing is published of a frame of which `make` returns None. The segmenter computes
    confidences where an output that `needs_confidence` has a subscriber, and those of classes
    where one does that `needs_class_confidence`. One that `accompanies` others is no reason to
    segment a frame.
    """

    type: type[Message]
    make: Callable[[Frame], Message | None]
    needs_confidence: bool = False
    needs_class_confidence: bool = False
    accompanies: bool = False


OUTPUTS = {
    'mask': Output(Image, lambda frame: mask_message(frame.segmentation.mask, frame.header)),
    'mask/compressed': Output(CompressedImage, lambda frame: compressed_mask_message(
        frame.segmentation.mask, frame.header)),
    'confidence': Output(Image, Frame.confidence_message, needs_confidence=True),
    'overlay': Output(Image, Frame.overlay_message),
    'classes': Output(String, lambda frame: String(data=class_summary(
        frame.domain, frame.segmentation, frame.header)), needs_class_confidence=True),
    'traversable': Output(Image, Frame.traversable_message),
    'camera_info': Output(CameraInfo, lambda frame: frame.camera_info_of(
        frame.header, frame.segmentation.mask.shape), accompanies=True),
}
"""The outputs of each frame, by the last part of their topics."""


def need_class_confidence(names: Collection[str]) -> bool:
    """Return whether one of these outputs cannot be made without the confidences of classes."""
    return any(OUTPUTS[name].needs_class_confidence for name in names)


def need_confidence(names: Collection[str]) -> bool:
    """Return whether one of these outputs cannot be made without confidences."""
    return any(OUTPUTS[name].needs_confidence for name in names)


class DomainOutputs:
    """
    The publishers of one domain: OUTPUTS, label_map and label_info.

    Their topics lie below `prefix`/DOMAIN. There is one of `traversable` while one of the
    classes named is the domain's. Raises RuntimeError where a QoS override says what there is
    not. Without vision_msgs there is no label_info.

    `watched`, `messages` and `publish` are for the thread in which frames become masks.
    """

    def __init__(self, node: ManagedNode, domain: Domain, prefix: str = '~', *,
                 traversable: Sequence[str] = (),
                 camera_info_of: CameraInfoOf = lambda header, size: None):
        self._node = node
        self._domain = domain
        self._prefix = f'{prefix}/{domain.name}'
        self._camera_info_of = camera_info_of
        self._publishers: dict[str, LifecyclePublisher] = {}
        self._lock = threading.Lock()
        """Held while publishers are used by one thread, or come and go by another."""
        try:
            for name in OUTPUTS:
                if name != 'traversable' or traversable_classes(traversable, domain):
                    self._open(name)
            self._publishers['label_map'] = node.create_lifecycle_publisher(
                String, f'{self._prefix}/label_map', LATCHED_QOS)
            if LabelInfo is not None:
                self._publishers['label_info'] = node.create_lifecycle_publisher(
                    LabelInfo, f'{self._prefix}/label_info', LATCHED_QOS)
        except Exception:
            self.close()
            raise

    @property
    def topics(self) -> list[str]:
        """Return the topics that there are, as remapped."""
        return [publisher.topic_name for publisher in self._publishers.values()]

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def offer_traversable(self, names: Sequence[str]) -> None:
        """Have the topic `traversable` while one of the classes named is the domain's."""
        wanted = bool(traversable_classes(names, self._domain))
        with self._lock:
            if wanted == ('traversable' in self._publishers):
                return
            if not wanted:
                self._node.destroy_lifecycle_publisher(self._publishers.pop('traversable'))
                return
            try:
                self._open('traversable')
            except RuntimeError as error:  # of its QoS override, which nothing has used so far
                self._node.get_logger().error(f'{self._prefix}/traversable: {error}')
                return
            if self._publishers['mask'].is_activated:
                self._publishers['traversable'].on_activate(None)

    def watched(self) -> frozenset[str]:
        """Return those of OUTPUTS for which a frame is to be segmented: with subscribers."""
        with self._lock:
            names = frozenset(name for name in OUTPUTS if name in self._publishers
                              and self._publishers[name].get_subscription_count())
        return frozenset() if all(OUTPUTS[name].accompanies for name in names) else names

    def announce(self, confidence_threshold: float) -> None:
        """Publish what a mask's values mean, also for those who come later."""
        self._publishers['label_map'].publish(String(data=label_map(self._domain)))
        if LabelInfo is not None:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            self._publishers['label_info'].publish(
                label_info(self._domain, header, confidence_threshold))

    def messages(self, names: frozenset[str], image: np.ndarray, segmentation: Segmentation,
                 header: Header, traversable: Sequence[str] = ()) -> dict[str, Message]:
        """
        Return the outputs of these names for an image (H, W, 3) uint8 RGB.

        `traversable` names classes, of this domain or of others.
        """
        frame = Frame(self._domain, header, image, segmentation,
                      traversable_classes(traversable, self._domain), self._camera_info_of)
        made = {name: OUTPUTS[name].make(frame) for name in OUTPUTS if name in names}
        return {name: message for name, message in made.items() if message is not None}

    def publish(self, messages: dict[str, Message]) -> None:
        """Publish outputs by name, less those whose topics have gone meanwhile."""
        with self._lock:
            for name, message in messages.items():
                if name in self._publishers:
                    self._publishers[name].publish(message)

    def _open(self, name: str) -> None:
        # Reliable and volatile serves best-effort readers too. A profile for each publisher,
        # since its overrides are written into it.
        self._publishers[name] = self._node.create_lifecycle_publisher(
            OUTPUTS[name].type, f'{self._prefix}/{name}', QoSProfile(depth=1),
            qos_overriding_options=QoSOverridingOptions.with_default_policies())


def label_map(domain: Domain) -> str:
    """Return what a mask's values mean, as JSON: each class's index, name and colour."""
    classes = [{'index': index, 'name': name, 'colour': colour}
               for index, (name, colour) in enumerate(zip(domain.classes, domain.palette,
                                                          strict=True))]
    return json.dumps({'domain': domain.name, 'classes': classes, 'unknown': IGNORE_INDEX})


def label_info(domain: Domain, header: Header, threshold: float) -> 'LabelInfo':
    """Return what a mask's values mean, as vision_msgs/LabelInfo; `threshold` is 0..1."""
    return LabelInfo(
        header=header, threshold=threshold,
        class_map=[VisionClass(class_id=index, class_name=name)
                   for index, name in enumerate(domain.classes)])
