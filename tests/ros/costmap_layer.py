"""
A consumer of masks, written from the documentation of Nav2's semantic_segmentation_layer.

With it go synchronisers as message_filters describes its own, and what stands for vision_msgs,
of which there is no wheel.
"""

from collections import defaultdict, deque
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2, PointField
from univseg_core.pictures.image_messages import nanoseconds

SENSOR_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LABELS_QOS = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LONGEST = 10**8
"""Nanoseconds between the first and the last message of an approximate set at most."""


class _InPlaceOfLabelInfo(type(DiagnosticArray)):
    def __instancecheck__(cls, message):
        return isinstance(message, DiagnosticArray)


class LabelInfo(DiagnosticArray, metaclass=_InPlaceOfLabelInfo):
    """Takes the fields of vision_msgs/LabelInfo, and makes a message that ROS can send of them."""

    def __new__(cls, *, header, threshold, class_map):
        """Return a DiagnosticArray with a status of each class."""
        return DiagnosticArray(header=header, status=[
            DiagnosticStatus(name=each['class_name'], message=str(threshold),
                             hardware_id=str(each['class_id'])) for each in class_map])


VisionClass = dict


class ExactTime:
    """Passes on messages of all inputs with one stamp; what is older is dropped."""

    def __init__(self, inputs, callback):
        self._waiting = [{} for _ in range(inputs)]
        self._callback = callback

    def add(self, which, message):
        stamp = nanoseconds(message.header.stamp)
        self._waiting[which][stamp] = message
        if all(stamp in waiting for waiting in self._waiting):
            found = [waiting[stamp] for waiting in self._waiting]
            self._waiting = [{time: each for time, each in waiting.items() if time > stamp}
                             for waiting in self._waiting]
            self._callback(*found)


class ApproximateTime:
    """
    Passes on a message of each input, those whose stamps lie nearest to each other.

    Each message is in one set at most, no set has an earlier message than one before it, and none
    is longer than LONGEST. It waits until no message that is to come could lie nearer: each
    input's are in the order of their stamps.
    """

    def __init__(self, inputs, callback):
        self._queues = [deque() for _ in range(inputs)]
        self._callback = callback

    def add(self, which, message):
        self._queues[which].append((nanoseconds(message.header.stamp), message))
        while all(self._queues):
            pivot = max(queue[0][0] for queue in self._queues)
            if any(queue[-1][0] < pivot for queue in self._queues):
                return
            chosen = [min(queue, key=lambda each: abs(each[0] - pivot)) for queue in self._queues]
            stamps = [stamp for stamp, _ in chosen]
            whole = max(stamps) - min(stamps) <= LONGEST
            for queue, stamp in zip(self._queues, stamps, strict=True):
                while queue and queue[0][0] <= stamp and (whole or stamp == min(stamps)):
                    queue.popleft()
            if whole:
                self._callback(*(each for _, each in chosen))


@dataclass(frozen=True)
class Cost:
    """What the costmap's parameters say of a type of classes."""

    base_cost: int = 0
    max_cost: int = 0
    mark_confidence: int = 0
    samples_to_max_cost: int = 0
    dominant_priority: bool = False


class Layer:
    """
    The layer, with one source, in a costmap whose frame is the cloud's.

    `source` has its parameters, `label_info` is the type of the labels' message. `complaints` are
    what it logs, `sets` the stamps of mask, confidence and cloud that it has put together.
    `observations` has the confidences by class of each tile, as (column, row): nothing decays.
    """

    def __init__(self, node, source, *, label_info, resolution=1.0, approximate=True):
        self.complaints = []
        self.sets = []
        self.observations = defaultdict(lambda: defaultdict(list))
        self._dominant = {}
        self._source = source
        self._resolution = resolution
        self._costs = {name: Cost(**{key: value for key, value in source[kind].items()
                                     if key != 'classes'})
                       for kind in source['class_types'] for name in source[kind]['classes']}
        self.class_costs = {}
        """The cost of each class index that label_info has named."""
        synchroniser = (ApproximateTime if approximate else ExactTime)(3, self._take)
        node.create_subscription(label_info, source['labels_topic'], self._take_labels, LABELS_QOS)
        for which, (type_, topic) in enumerate((
                (Image, 'segmentation'), (Image, 'confidence'), (PointCloud2, 'pointcloud'))):
            node.create_subscription(type_, source[f'{topic}_topic'], lambda message, which=which:
                                     synchroniser.add(which, message), SENSOR_QOS)

    def _take_labels(self, message):
        names = ([(each.class_id, each.class_name) for each in message.class_map]
                 if hasattr(message, 'class_map') else
                 [(int(each.hardware_id), each.name) for each in message.status])
        self.complaints += [f'class {name!r} is not in the parameters'
                            for _, name in names if name not in self._costs]
        self.class_costs = {index: self._costs[name] for index, name in names
                            if name in self._costs}

    def _take(self, mask, confidence, cloud):
        self.sets.append(tuple(nanoseconds(each.header.stamp)
                               for each in (mask, confidence, cloud)))
        if (mask.encoding, confidence.encoding) != ('mono8', 'mono8'):
            self.complaints.append('not mono8')
        elif mask.width * mask.height != cloud.width * cloud.height:
            self.complaints.append('sizes are different')
        elif not self.class_costs:
            self.complaints.append('no label_info has been received')
        else:
            self._buffer(bytes(mask.data), bytes(confidence.data), points_of(cloud))

    def _buffer(self, classes, confidences, points):
        best = {}
        distance = np.linalg.norm(points, axis=1)  # nan is within no range
        seen = ((distance > self._source['min_obstacle_distance'])
                & (distance < self._source['max_obstacle_distance']))
        for pixel in np.flatnonzero(seen).tolist():
            tile = tuple(np.floor(points[pixel, :2] / self._resolution).astype(int).tolist())
            if tile not in best or self._prefers(pixel, best[tile], classes, confidences):
                best[tile] = pixel
        for tile, pixel in best.items():
            index = classes[pixel]
            if index in self.class_costs:
                self._observe(tile, index, confidences[pixel])

    def _prefers(self, pixel, other, classes, confidences):
        if not self._source['use_cost_selection']:
            return confidences[pixel] > confidences[other]
        costs = [self.class_costs.get(classes[each], Cost()) for each in (pixel, other)]
        return costs[0].max_cost > costs[1].max_cost

    def _observe(self, tile, index, confidence):
        queues = self.observations[tile]
        if self.class_costs[index].dominant_priority:
            queues.clear()
        queues[index].append(confidence)
        dominant = self._dominant.get(tile)
        if dominant not in queues or len(queues[index]) > len(queues[dominant]):
            self._dominant[tile] = index

    def costs(self):
        """Return the cost of each tile that something was seen on."""
        found = {}
        for tile, queues in self.observations.items():
            cost, seen = self.class_costs[self._dominant[tile]], queues[self._dominant[tile]]
            certain = (len(seen) >= cost.samples_to_max_cost
                       and sum(seen) / len(seen) > cost.mark_confidence)
            found[tile] = cost.max_cost if certain else cost.base_cost
        return found


def cloud_message(points, header):
    """Return an organised cloud of points (H, W, 3)."""
    height, width = points.shape[:2]
    fields = [PointField(name=name, offset=4 * number, datatype=PointField.FLOAT32, count=1)
              for number, name in enumerate('xyz')]
    return PointCloud2(header=header, height=height, width=width, fields=fields, point_step=12,
                       row_step=12 * width, data=points.astype('<f4').tobytes())


def points_of(cloud):
    """Return the points (N, 3) of a cloud."""
    return np.frombuffer(cloud.data, '<f4').reshape(-1, 3)
