"""The node as Nav2's semantic_segmentation_layer needs it, with the tutorial's topics."""

from types import SimpleNamespace

from builtin_interfaces.msg import Time
import costmap_layer
from costmap_layer import ApproximateTime, cloud_message, ExactTime, Layer
import numpy as np
import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_msgs.msg import Header
import torch
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_ros import launching, outputs
from univseg_ros.messages import rgb_message
from univseg_ros.segmentation_node import SegmentationNode

COSTS = {'traversable': (['sidewalk'], 0), 'intermediate': (['background'], 127),
         'danger': (['grass'], 254)}
"""The classes of the tutorial's costmaps and what they cost."""

CLASSES = ['grass', 'background', 'sidewalk', 'sky']
PERIOD = 200_000_000
"""Nanoseconds between two images."""


def source(namespace, **changes):
    """Return the parameters of the tutorial's source, but with topics in a namespace."""
    topics = {'segmentation_topic': 'segmentation/mask',
              'confidence_topic': 'segmentation/confidence',
              'labels_topic': 'segmentation/label_info',
              'pointcloud_topic': 'rgbd_camera/depth/points'}
    return {**{name: f'{namespace}/{topic}' for name, topic in topics.items()},
            'use_cost_selection': False, 'max_obstacle_distance': 500.0,
            'min_obstacle_distance': 0.3, 'class_types': list(COSTS),
            **{kind: {'classes': classes, 'base_cost': cost, 'max_cost': cost}
               for kind, (classes, cost) in COSTS.items()}, **changes}


@pytest.fixture(scope='session')
def park_model(tmp_path_factory):
    """Return the path of a model whose domain has the tutorial's classes, and one more."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp('park') / 'park.univseg'
    save_model(path, UniversalSegmenter(ModelSpec(width=1 / 16, embedding_dim=8),
                                        [Domain.create('park', CLASSES)]), ModelCard())
    return path


class Robot:
    """A node, a depth camera and the layer in one process."""

    def __init__(self, peer, model, **parameters):
        self._peer = peer
        self._namespace = peer.node.get_namespace()
        self._executor = SingleThreadedExecutor()
        self._time = 0
        remappings = [('image', f'{self._namespace}/rgbd_camera/image'),
                      *launching.output_remappings('park', f'{self._namespace}/segmentation')]
        self.node = SegmentationNode(
            'univseg', namespace=self._namespace, parameter_overrides=[
                Parameter(name, value=value) for name, value in {
                    'model': str(model), 'precision': 'fp32', 'autostart': False,
                    **parameters}.items()],
            cli_args=['--ros-args', *(argument for names in remappings
                                      for argument in ('-r', ':='.join(names)))])
        self._executor.add_node(self.node)
        self._executor.add_node(peer.node)
        self._image = peer.node.create_publisher(
            costmap_layer.Image, f'{self._namespace}/rgbd_camera/image', 1)
        self._cloud = peer.node.create_publisher(
            costmap_layer.PointCloud2, f'{self._namespace}/rgbd_camera/depth/points', 10)

    def layer(self, **options):
        changes = options.pop('changes', {})
        return Layer(self._peer.node, source(self._namespace, **changes),
                     label_info=outputs.LabelInfo, **options)

    def start(self):
        self.node.trigger_configure()
        self.node.trigger_activate()

    def see(self, picture, points, layer, sets, delay=0):
        """Publish images, and clouds so many nanoseconds later, until there are so many sets."""
        for _ in range(200):
            if len(layer.sets) >= sets:
                return
            self._time += PERIOD
            if self._image.get_subscription_count():
                self._image.publish(rgb_message(picture, header(self._time)))
            self._cloud.publish(cloud_message(points, header(self._time + delay)))
            for _ in range(20):
                self._executor.spin_once(0.01)
        pytest.fail(f'no {sets} sets: {layer.sets}; {layer.complaints}')

    def spin_until(self, condition):
        for _ in range(2000):
            if condition():
                return
            self._executor.spin_once(0.05)
        pytest.fail('waited in vain')

    def close(self):
        for node in self._executor.get_nodes():
            self._executor.remove_node(node)
        self.node.destroy_node()


@pytest.fixture
def make_robot(own_peer, park_model, monkeypatch):
    """Return a function that makes a robot, whose node has some parameters."""
    if outputs.LabelInfo is None:
        monkeypatch.setattr(outputs, 'LabelInfo', costmap_layer.LabelInfo)
        monkeypatch.setattr(outputs, 'VisionClass', costmap_layer.VisionClass)
    robots = []

    def make(**parameters):
        robots.append(Robot(own_peer, park_model, **parameters))
        return robots[-1]

    yield make
    for robot in robots:
        robot.close()


@pytest.fixture
def points(pictures):
    """Return a point for each pixel of a picture, one metre apart; some have no depth."""
    height, width = pictures[0].shape[:2]
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    points = np.stack([columns, rows, np.ones_like(rows)], axis=2)
    points[::5, ::3] = np.nan
    return points


def header(time):
    return Header(stamp=Time(sec=time // 10**9, nanosec=time % 10**9), frame_id='camera')


def expected_costs(segmentation, points):
    """Return the cost of each tile that one pixel lies on, by the class's name."""
    costs = {name: cost for names, cost in COSTS.values() for name in names}
    return {(column, row): costs[CLASSES[index]]
            for (row, column), index in np.ndenumerate(segmentation.mask)
            if index != 255 and CLASSES[index] in costs and np.isfinite(points[row, column, 2])}


ALL_CLASSES = {'danger': {'classes': ['grass', 'sky'], 'base_cost': 254, 'max_cost': 254}}


@pytest.mark.parametrize(('approximate', 'delay'), [(False, 0), (True, 0), (True, 30_000_000)])
def test_the_costmap_has_what_the_node_sees(make_robot, park_model, pictures, points, approximate,
                                            delay):
    robot = make_robot()
    layer = robot.layer(approximate=approximate)
    robot.start()
    robot.see(pictures[0], points, layer, 3, delay)
    for mask, confidence, cloud in layer.sets:
        assert mask == confidence == cloud - delay
    # The labels were there before the first mask, and one class is not the costmap's.
    assert layer.complaints == ["class 'sky' is not in the parameters"]
    segmentation = Segmenter.load(park_model, precision='fp32')(pictures[0])['park']
    expected = expected_costs(segmentation, points)
    assert layer.costs() == expected
    assert len(set(expected.values())) > 1


def test_who_comes_late_learns_the_classes_too(make_robot, pictures, points):
    robot = make_robot()
    robot.start()
    early = robot.layer()
    robot.see(pictures[0], points, early, 2)
    late = robot.layer(changes=ALL_CLASSES)
    robot.spin_until(lambda: late.class_costs)
    robot.see(pictures[0], points, late, 2)
    assert late.costs().keys() >= early.costs().keys()
    assert late.class_costs.keys() == {0, 1, 2, 3}
    assert late.complaints == []


@pytest.mark.parametrize('use_cost_selection', [False, True])
def test_what_is_unknown_is_never_marked(make_robot, park_model, pictures, points,
                                         use_cost_selection):
    segmenter = Segmenter.load(park_model, precision='fp32')
    confidence = segmenter(pictures[0], confidence=True)['park'].confidence
    threshold = float(np.median(confidence)) / 255
    segmentation = segmenter(pictures[0], threshold=threshold)['park']
    assert 0.2 < (segmentation.mask == 255).mean() < 0.8
    robot = make_robot(confidence_threshold=threshold)
    changes = {**ALL_CLASSES, 'use_cost_selection': use_cost_selection}
    fine, coarse = (robot.layer(changes=changes, resolution=size) for size in (1.0, 6.0))
    robot.start()
    robot.see(pictures[0], points, fine, 2)
    robot.see(pictures[0], points, coarse, 2)
    known = {(column, row) for (row, column), index in np.ndenumerate(segmentation.mask)
             if index != 255 and np.isfinite(points[row, column, 2])}
    assert fine.observations.keys() == known
    for layer in (fine, coarse):
        assert layer.observations
        assert layer.complaints == []
        assert all(queues.keys() <= {0, 1, 2, 3} for queues in layer.observations.values())


def test_a_threshold_that_nothing_reaches_leaves_the_costmap_alone(make_robot, pictures, points):
    robot = make_robot(confidence_threshold=1.0)
    layer = robot.layer(changes=ALL_CLASSES)
    robot.start()
    robot.see(pictures[0], points, layer, 2)
    assert layer.costs() == {}
    assert layer.complaints == []


# The synchronisers themselves.

def stamped(time):
    return SimpleNamespace(header=header(time))


def sets_of(synchroniser, arrivals):
    """Return the stamps of the sets that messages make, given as (input, stamp in ms)."""
    found = []
    inputs = synchroniser(2, lambda *messages: found.append(
        tuple(message.header.stamp.nanosec // 10**6 for message in messages)))
    for which, time in arrivals:
        inputs.add(which, stamped(time * 10**6))
    return found


def test_equal_stamps_are_paired_once_whatever_their_order():
    assert sets_of(ExactTime, [(0, 1), (1, 2), (0, 2), (1, 1), (1, 3), (0, 3), (0, 3)]) == [
        (2, 2), (3, 3)]


@pytest.mark.parametrize(('arrivals', 'expected'), [
    ([(0, 10), (1, 10), (0, 20), (1, 20)], [(10, 10), (20, 20)]),
    ([(0, 10), (0, 20), (1, 19), (0, 30)], [(20, 19)]),   # the nearer one, not the first
    ([(0, 10), (1, 19), (0, 20), (1, 30), (0, 40), (1, 60)], [(20, 19), (40, 30)]),
    ([(0, 10), (1, 40)], []),                             # a nearer one may come
    ([(0, 10), (1, 250), (0, 200), (0, 300), (1, 400), (0, 400)], [(200, 250), (400, 400)]),
    ([(0, 10), (1, 200), (0, 400)], []),                  # more than 0.1 s apart
])
def test_messages_are_paired_with_the_nearest(arrivals, expected):
    assert sets_of(ApproximateTime, arrivals) == expected
