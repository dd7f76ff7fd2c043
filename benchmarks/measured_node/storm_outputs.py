"""What comes of a node's frames in a storm, beside what should come of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
import functools
import json
import time
from typing import Any

import cv2
from measured_node.made_up_places import CLASSES
from measured_node.processes import stamp_of
from measured_node.storm_truth import AUTO, CAMERAS, DOMAINS, Settings, Snapshot
import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from univseg_core.inference.segmenter import Segmenter

OUTPUTS = {'mask': Image, 'mask/compressed': CompressedImage, 'classes': String,
           'overlay': Image, 'confidence': Image, 'traversable': Image}
DEPTH = 200
"""Messages that publishers should keep, so that none is lost on its way."""

LEAVING = 0.5
"""Seconds before its end until which a subscription gets an output of each frame."""

Topic = tuple[str, str, str]
"""A camera, a domain and an output."""


@dataclass
class Life:
    """A subscription, as long as the node's publisher is the same: when, and stamps that came."""

    begin: float
    end: float = float('inf')
    stamps: list[int] = field(default_factory=list)

    def has_settled(self, stamp: int, arrival: float) -> bool:
        """Return whether a frame, other outputs of which came then, must have this one."""
        # Until a first one has come, reader and writer may not have found each other.
        return bool(self.stamps) and self.stamps[0] <= stamp and (
            stamp <= self.stamps[-1] or arrival <= self.end - LEAVING)


@dataclass
class Frame:
    """A frame of a camera, and what came of it, with the time when the first of it came."""

    picture: int
    step: int
    window: Sequence[Snapshot] = ()
    outputs: dict[str, set[str]] = field(default_factory=dict)
    arrival: float = 0.0
    recognition: dict[str, Any] | None = None


class Watch:
    """
    Subscriptions to a node's outputs that come and go, and faults in what comes.

    `history` has the settings after each change that was asked for, of which the first `answered`
    are in force; `pictures` are those that cameras show. A frame may have been processed with any
    settings from those in force when it was sent to those asked for when its output came.
    """

    def __init__(self, node: Node, name: str, segmenter: Segmenter,
                 pictures: Sequence[np.ndarray]):
        self.node, self.name = node, name
        self.segmenter, self.pictures = segmenter, pictures
        self.history: list[Snapshot] = []
        self.answered = 0
        self.faults: Counter[str] = Counter()
        self.frames: dict[tuple[str, int], Frame] = {}
        self.told: dict[tuple[str, str], Any] = {}
        """What is latched on the topics active_domains and domain of each camera."""
        self.subscribed: dict[Topic, Any] = {}
        self.lives: dict[Topic, list[Life]] = {}
        latched = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for camera in CAMERAS:
            for topic in ('active_domains', 'domain'):
                node.create_subscription(
                    String, f'{name}/{camera}/{topic}',
                    functools.partial(self._hear, camera, topic), latched)
            node.create_subscription(String, f'{name}/{camera}/recognition',
                                     functools.partial(self._recognise, camera), DEPTH)

    def toggle(self, topic: Topic) -> None:
        """Subscribe to an output, or end its subscription."""
        if topic in self.subscribed:
            self.node.destroy_subscription(self.subscribed.pop(topic))
            self.lives[topic][-1].end = time.monotonic()
            return
        self.lives.setdefault(topic, []).append(Life(time.monotonic()))
        self.subscribed[topic] = self.node.create_subscription(
            OUTPUTS[topic[2]], f'{self.name}/{"/".join(topic)}',
            functools.partial(self._receive, topic), DEPTH)

    def send(self, camera: str, stamp: int, picture: int) -> None:
        """Take note of a frame that is sent now."""
        self.frames[camera, stamp] = Frame(picture, self.answered)

    def publishers_went(self) -> None:
        """Begin all subscriptions' lives anew: their publishers went, or come."""
        for topic in self.subscribed:
            self.lives[topic][-1].end = time.monotonic()
            self.lives[topic].append(Life(time.monotonic()))

    def counts(self) -> str:
        """Return in words what came."""
        seen = [frame for frame in self.frames.values() if frame.outputs]
        outputs = sum(len(names) for frame in seen for names in frame.outputs.values())
        return (f'{len(self.frames)} frames sent, {len(seen)} came back with {outputs} outputs, '
                f'{sum(frame.recognition is not None for frame in self.frames.values())} with '
                'their recognition')

    def judge_sets(self) -> None:
        """Look at all frames so far, whether each had all that was to come of it."""
        for (camera, stamp), frame in self.frames.items():
            for domain in self._domains_due(frame, camera):
                missing = {output for output in OUTPUTS if output != 'traversable'
                           and output not in frame.outputs.get(domain, ())
                           and self._is_due((camera, domain, output), stamp, frame.arrival)}
                if missing:
                    self.faults[f'{camera}/{domain}: a frame lacks '
                                f'{self._ages(camera, domain, missing, frame.arrival)}'] += 1
            if frame.recognition is not None:
                decided = frame.recognition['domain']
                if set(frame.outputs) - {decided}:
                    self.faults[f'{camera}: masks of {sorted(frame.outputs)} where {decided} is '
                                'decided'] += 1

    def _domains_due(self, frame: Frame, camera: str) -> set[str]:
        if frame.recognition is not None:
            return {frame.recognition['domain']} - {None}
        due = set(frame.outputs)
        named = [set(snapshot[camera].domains) if camera in snapshot else set()
                 for snapshot in frame.window]
        return due | (set.intersection(*named) - set(AUTO) if named else set())

    def _ages(self, camera: str, domain: str, outputs: set[str], arrival: float) -> str:
        """Return outputs with how long they had been subscribed to, and still were."""
        return ', '.join(
            f'{output} ({arrival - life.begin:.2f} s after its subscription, '
            f'{life.end - arrival:.2f} s before its end)' for output in sorted(outputs)
            for life in self.lives[camera, domain, output] if life.begin <= arrival < life.end)

    def _is_due(self, topic: Topic, stamp: int, arrival: float) -> bool:
        return any(life.has_settled(stamp, arrival) for life in self.lives.get(topic, ()))

    def _hear(self, camera: str, topic: str, message: String) -> None:
        self.told[camera, topic] = json.loads(message.data)

    def _recognise(self, camera: str, message: String) -> None:
        told = json.loads(message.data)
        frame = self._frame(camera, told['stamp'], 'recognition')
        if frame is not None:
            frame.recognition = told
            frame.arrival = frame.arrival or time.monotonic()

    def _frame(self, camera: str, stamp: int, what: str) -> Frame | None:
        frame = self.frames.get((camera, stamp))
        if frame is None:
            self.faults[f'{camera}: {what} of a frame that it never sent'] += 1
        return frame

    def _receive(self, topic: Topic, message: Any) -> None:
        camera, domain, output = topic
        stamp = (json.loads(message.data)['stamp'] if output == 'classes'
                 else stamp_of(message))
        frame = self._frame(camera, stamp, output)
        if frame is None:
            return
        outputs = frame.outputs.setdefault(domain, set())
        if output in outputs:
            self.faults[f'{camera}/{domain}/{output}: twice of a frame'] += 1
        outputs.add(output)
        frame.arrival = frame.arrival or time.monotonic()
        self.lives[topic][-1].stamps.append(stamp)
        frame.window = self.history[frame.step - 1:]
        possible = {snapshot[camera] for snapshot in frame.window if camera in snapshot
                    and (domain in snapshot[camera].domains or snapshot[camera].domains == AUTO)}
        if not possible:
            self.faults[f'{camera}/{domain}/{output}: not of a domain that was set'] += 1
        elif not any(self._shows(message, output, self.expected(frame.picture, domain, settings),
                                 domain, settings) for settings in possible):
            self.faults[f'{camera}/{domain}/{output}: wrong'] += 1

    @functools.cache  # noqa: B019 - it lives as long as the process
    def _segmented(self, picture: int, domain: str, threshold: float, size: int) -> np.ndarray:
        return self.segmenter(self.pictures[picture], [domain], threshold=threshold,
                              inference_size=size or None)[domain].mask

    def expected(self, picture: int, domain: str, settings: Settings) -> np.ndarray:
        """Return the mask of a picture by some settings."""
        return self._segmented(picture, domain, settings.threshold, settings.size)

    def _shows(self, message: Any, output: str, mask: np.ndarray, domain: str,
               settings: Settings) -> bool:
        """Return whether an output is that of a mask."""
        if output == 'classes':
            told = json.loads(message.data)
            shares = [*(each['share'] for each in told['classes'].values()), told['unknown']]
            values = [*range(len(CLASSES[domain])), 255]
            return list(told['classes']) == CLASSES[domain] and bool(np.allclose(
                shares, [np.mean(mask == value) for value in values], atol=1e-6))
        if output == 'mask/compressed':
            picture = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
            return np.array_equal(picture, mask)
        picture = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        if output == 'mask':
            return np.array_equal(picture, mask)
        if output == 'traversable':
            names = {name for each in settings.traversable if (name := each.removeprefix(
                f'{domain}/'))}
            values = [index for index, name in enumerate(CLASSES[domain]) if name in names]
            return np.array_equal(picture, 255 * np.isin(mask, values))
        return picture.shape == (len(mask), mask.shape[1] * (3 if output == 'overlay' else 1))


def all_topics() -> Iterator[Topic]:
    """Yield all outputs of all cameras."""
    for camera in CAMERAS:
        for domain in DOMAINS:
            for output in OUTPUTS:
                yield camera, domain, output


def parameters_of_depth(name: str) -> Iterator[str]:
    """Yield the parameters by which the outputs of a node of that name keep DEPTH messages."""
    for topic in all_topics():
        yield f'qos_overrides.{name}/{"/".join(topic)}.publisher.depth:={DEPTH}'


