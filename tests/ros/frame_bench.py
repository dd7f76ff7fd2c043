"""A frame worker on a bench, with stand-ins for what lies around it."""

from collections import Counter
from functools import partial
import threading
from types import SimpleNamespace

from builtin_interfaces.msg import Time
from fakes import DEADLINE, wait_until
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
import torch
from univseg_core.inference.segmenter import Segmentation
from univseg_core.pictures.images import fit_size
from univseg_ros.camera_stream import CameraStream, FrameSettings
from univseg_ros.frame_worker import FrameWorker
from univseg_ros.messages import rgb_message


class WeakImage(Image):
    """An image message that can be referred to weakly."""


class Camera:
    """Numbers its frames in their stamps."""

    def __init__(self):
        self.count = 0

    def frame(self, size=(6, 8)):
        self.count += 1
        message = rgb_message(np.full((*size, 3), self.count % 256, np.uint8),
                              Header(stamp=Time(sec=self.count)))
        return WeakImage(**{name: getattr(message, name) for name in (
            'header', 'height', 'width', 'encoding', 'step', 'data')})


class Segmenter:
    """
    Says that a mask is its domain's position in the alphabet, after what a test has put in.

    `during` is called in the midst of each inference. `memory` is the largest size that it has
    memory for; beyond it, it raises `error`. `recognition` is what it finds of each image.

    `batches` are the numbers of images that it got at once, of which `batch_error` is raised if
    there is one, and `masks_error` by the first that is to become masks.
    """

    def __init__(self):
        self.own_size = None
        self.only_size = None
        self.recognition = None
        self.calls = []
        self.during = lambda: None
        self.memory = None
        self.error = torch.OutOfMemoryError('CUDA out of memory')
        self.batches = []
        self.batch_error = self.masks_error = None

    def network_size(self, height, width, inference_size):
        return fit_size(height, width, inference_size)

    def segment_together(self, requests):
        self.batches.append(len(requests))
        assert len({self.network_size(*each.image.shape[:2], each.inference_size)
                    for each in requests}) == 1
        self.during()
        if self.batch_error is not None:
            raise self.batch_error
        return [partial(self._masks, request, request.domains(self.recognition) if callable(
            request.domains) else request.domains) for request in requests]

    def _masks(self, request, names):
        error, self.masks_error = self.masks_error, None
        if error is not None:
            raise error
        return segmentations(request.image, names, request.confidence)

    def __call__(self, image, domains, *, confidence, threshold, inference_size,
                 class_confidence):
        size = inference_size or max(image.shape[:2])
        if callable(domains):
            domains = domains(self.recognition)
        self.calls.append(SimpleNamespace(
            domains=list(domains), confidence=confidence, threshold=threshold, size=size))
        if self.memory is not None and size > self.memory:
            raise self.error
        self.during()
        return segmentations(image, domains, confidence)


def segmentations(image, domains, confidence):
    return {name: Segmentation(
        np.full(image.shape[:2], ord(name[0]) - ord('a'), np.uint8),
        np.zeros(image.shape[:2], np.uint8) if confidence else None) for name in domains}


class Outputs:
    """One domain's outputs, of which some are watched; keeps what is published, but no frame."""

    def __init__(self, name, log, watched=()):
        self.name = name
        self.names = frozenset(watched)
        self.log = log
        self.traversable = []
        self.during_messages = self.during_publish = lambda: None

    def watched(self):
        return self.names

    def messages(self, names, image, segmentation, header, traversable):
        self.traversable.append(traversable)
        self.during_messages()
        if 'confidence' in names:
            assert segmentation.confidence is not None
        return dict.fromkeys(names, (header.stamp.sec, int(segmentation.mask[0, 0])))

    def publish(self, messages):
        self.during_publish()
        for output, (number, value) in messages.items():
            self.log.append((number, self.name, output, value))


class Bench:
    """A worker on a bench: settings, stand-ins, and what it published."""

    def __init__(self, **watched):
        self.settings = FrameSettings(['a'], 0.0, 0.0, 0.0)
        self.published = []
        self.errors = []
        self.warnings = []
        self.now = 0
        self.ok = True
        self.camera = Camera()
        self.segmenter = Segmenter()
        self.outputs = {name: Outputs(name, self.published, watched.get(name, ()))
                        for name in 'abc'}
        node = SimpleNamespace(
            context=SimpleNamespace(ok=lambda: self.ok),
            get_clock=lambda: SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=self.now)),
            get_logger=lambda: SimpleNamespace(
                error=lambda text, **_: self.errors.append(text), debug=lambda text: None,
                warning=self.warnings.append))
        self.worker = FrameWorker(node, self.segmenter)
        self.stream = CameraStream(self.outputs, lambda: self.settings)

    def change(self, **values):
        self.settings = FrameSettings(**{**vars(self.settings), **values})

    def put(self, message=None):
        self.worker.put(self.stream, self.camera.frame() if message is None else message)

    def outcomes(self):
        """Return the counts of the outcomes that there were."""
        totals = self.stream.statistics.totals()
        del totals['received']
        return {name: count for name, count in totals.items() if count}

    def wait(self):
        """Wait until each frame so far has come to something; return their outcomes."""
        wait_until(lambda: sum(self.outcomes().values()) >= self.received(), self.outcomes())
        assert sum(self.outcomes().values()) == self.received()
        return self.outcomes()

    def received(self):
        return self.stream.statistics.totals()['received']

    def put_and_wait(self, message=None):
        """Return what became of one frame."""
        before = Counter(self.outcomes())
        self.put(message)
        (outcome, count), = (Counter(self.wait()) - before).items()
        assert count == 1
        return outcome


class Gate:
    """Holds inferences up until they may go on."""

    def __init__(self, bench):
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        bench.segmenter.during = self.hold

    def hold(self):
        self.entered.release()
        assert self.go_on.acquire(timeout=DEADLINE)

    def wait(self):
        assert self.entered.acquire(timeout=DEADLINE)
