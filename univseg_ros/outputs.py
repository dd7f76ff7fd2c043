"""What the node publishes of a domain."""

import json

import numpy as np
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference.segmenter import Segmentation
from univseg_core.pictures.overlay import overlay_with_legend
from univseg_ros.managed_node import ManagedNode
from univseg_ros.messages import mask_message, rgb_message
from univseg_ros.qos import LATCHED_QOS

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = VisionClass = None  # PyPI has no wheel of it

IMAGES = ('mask', 'confidence', 'overlay')


class DomainOutputs:
    """
    The publishers of one domain: mask, confidence, overlay, label_map and label_info.

    They are below `prefix`/DOMAIN. Raises RuntimeError where a QoS override says what there is
    not. Without vision_msgs there is no label_info.
    """

    def __init__(self, node: ManagedNode, domain: Domain, prefix: str = '~'):
        self._node = node
        self._domain = domain
        self._publishers = {}
        try:
            for name in IMAGES:
                # Reliable and volatile serves best-effort readers too. A profile for each
                # publisher, since its overrides are written into it.
                self._publishers[name] = node.create_lifecycle_publisher(
                    Image, f'{prefix}/{domain.name}/{name}', QoSProfile(depth=1),
                    qos_overriding_options=QoSOverridingOptions.with_default_policies())
            self._publishers['label_map'] = node.create_lifecycle_publisher(
                String, f'{prefix}/{domain.name}/label_map', LATCHED_QOS)
            if LabelInfo is not None:
                self._publishers['label_info'] = node.create_lifecycle_publisher(
                    LabelInfo, f'{prefix}/{domain.name}/label_info', LATCHED_QOS)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def watched(self) -> frozenset[str]:
        """Return those of mask, confidence and overlay that somebody subscribes to."""
        return frozenset(name for name in IMAGES
                         if self._publishers[name].get_subscription_count())

    def announce(self, confidence_threshold: float) -> None:
        """Publish what a mask's values mean, also for those who come later."""
        self._publishers['label_map'].publish(String(data=label_map(self._domain)))
        if LabelInfo is not None:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            self._publishers['label_info'].publish(
                label_info(self._domain, header, confidence_threshold))

    def messages(self, names: frozenset[str], image: np.ndarray, segmentation: Segmentation,
                 header: Header) -> dict[str, Image]:
        """Return the outputs of these names for an image (H, W, 3) uint8 RGB."""
        messages = {}
        if 'mask' in names:
            messages['mask'] = mask_message(segmentation.mask, header)
        if 'confidence' in names:
            assert segmentation.confidence is not None  # since it was asked for
            messages['confidence'] = mask_message(segmentation.confidence, header)
        if 'overlay' in names:
            messages['overlay'] = rgb_message(
                overlay_with_legend(image, segmentation.mask, self._domain), header)
        return messages

    def publish(self, messages: dict[str, Image]) -> None:
        """Publish outputs by name."""
        for name, message in messages.items():
            self._publishers[name].publish(message)


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
