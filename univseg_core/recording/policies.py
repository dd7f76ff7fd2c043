"""
Which images a recorder keeps.

Each entry of POLICIES is all that there is of a policy: what it keeps, its parameters, why it
does not keep an image, and how it is made.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
import time
from typing import Any

import numpy as np
from univseg_core.bags.mcap import Message
from univseg_core.bags.reading import BagError, deserialise
from univseg_core.bags.topics import Topic
from univseg_core.pictures.image_messages import CompressedImage, Image, MessageError
from univseg_core.pictures.images import ImageError
from univseg_core.pictures.likeness import dhash, small_grey
from univseg_core.recording.serialized_image import SerializedImage

KEPT = 'kept'
TOO_SOON, SIMILAR, SURE, UNJUDGED = 'rate', 'similar', 'sure', 'unjudged'

CONFIDENCES_KEPT = 1000
"""Confidences that are remembered for images that come after them."""

Verdict = tuple[SerializedImage, str]
"""A frame, and KEPT or why it is not, one of its policy's outcomes."""


class Policy(ABC):
    """Decides which images are kept; what a policy has no use for, it leaves as it is here."""

    held_bytes = 0
    """Bytes of the images of which nothing is decided yet."""

    @abstractmethod
    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield what is decided by a new image: often of itself, sometimes of earlier ones."""

    def learn(self, confidence: SerializedImage) -> Iterator[Verdict]:
        """Yield what is decided by a picture of the model's confidence."""
        yield from ()

    def overdue(self, at_once: bool = False) -> Iterator[Verdict]:
        """Yield what is decided because time has passed; `at_once`, of all that is left."""
        yield from ()

    def lost(self, frame: SerializedImage) -> None:  # noqa: B027 (most need not know)
        """Take note that an image that was to be kept could not be."""


class KeepAll(Policy):
    """Keeps every image."""

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield the image, kept."""
        yield frame, KEPT


class RateLimit(Policy):
    """
    Keeps at most `rate` images a second of each topic, by their stamps.

    Images without a stamp count by the time at which they came. A clock that was set back begins
    anew.
    """

    def __init__(self, rate: float):
        self._period = 1e9 / rate
        self._turns: dict[str, float] = {}

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield the image, kept if it is its topic's turn."""
        stamp = _stamp(frame)
        turn = self._turns.get(frame.topic.name, stamp)
        late = stamp - turn
        # A stamp may come a little before it is due: cameras are not exact.
        early = self._period / 20
        if -2 * self._period < late < -early:
            yield frame, TOO_SOON
            return
        # When it was due rather than now, or the rate would not be kept on average at any
        # camera's rate; but a pause gives no credit.
        begin = turn if -early <= late < self._period else stamp
        self._turns[frame.topic.name] = begin + self._period
        yield frame, KEPT


class Novel(Policy):
    """
    Keeps images whose dHash differs in more than `bits` of 64 from that of the last one kept.

    What cannot be compared (a damaged image, an encoding that is not read) is kept.
    """

    def __init__(self, bits: int):
        self._bits = bits
        self._hashes: dict[str, int] = {}

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield the image, kept if it is new."""
        try:
            new = dhash(small_grey(_deserialised(frame)))
        except (BagError, MessageError, ImageError):
            yield frame, KEPT
            return
        last = self._hashes.get(frame.topic.name)
        if last is not None and (new ^ last).bit_count() <= self._bits:
            yield frame, SIMILAR
            return
        self._hashes[frame.topic.name] = new
        yield frame, KEPT

    def lost(self, frame: SerializedImage) -> None:
        """Let the topic's next image be new."""
        self._hashes.pop(frame.topic.name, None)


@dataclass
class _Held:
    frame: SerializedImage
    key: tuple[int, bytes]
    since: float
    judged: bool = False


class Uncertain(Policy):
    """
    Keeps images of which the segmentation node's mean confidence is below `below`, 0..1.

    An image waits for the confidence of its stamp and frame_id for `patience` seconds at most, or
    until those that wait have more than `most_bytes`; the confidence may also come before it.
    With several domains, the lowest confidence counts.
    """

    def __init__(self, below: float, patience: float, most_bytes: int):
        self._below = below
        self._patience = patience
        self._most_bytes = most_bytes
        self._held: deque[_Held] = deque()
        self._lowest: dict[tuple[int, bytes], float] = {}
        self._topics: dict[str, Topic] = {}
        self.held_bytes = 0

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Hold the image; yield those that have waited too long, or whose topic has changed."""
        name = frame.topic.name
        if self._topics.setdefault(name, frame.topic) != frame.topic:
            # Or they would come after images of the new one, and each begin another bag.
            self._topics[name] = frame.topic
            for item in self._take(lambda item: item.frame.topic.name == name):
                yield item.frame, SURE if item.judged else UNJUDGED
        try:
            key = frame.header()
        except ValueError:
            yield frame, UNJUDGED
            return
        mean = self._lowest.get(key)
        if mean is not None and mean < self._below:
            yield frame, KEPT
            return
        self._held.append(_Held(frame, key, time.monotonic(), judged=mean is not None))
        self.held_bytes += len(frame.data)
        yield from self.overdue()

    def learn(self, confidence: SerializedImage) -> Iterator[Verdict]:
        """Yield the images of this confidence, if it is low."""
        try:
            key = confidence.header()
            mean = float(np.mean(_deserialised(confidence).data)) / 255
        except (ValueError, BagError):
            return
        self._lowest[key] = min(mean, self._lowest.get(key, mean))
        if len(self._lowest) > CONFIDENCES_KEPT:
            del self._lowest[next(iter(self._lowest))]
        if mean < self._below:
            for item in self._take(lambda item: item.key == key):
                yield item.frame, KEPT
        for item in self._held:
            item.judged |= item.key == key

    def overdue(self, at_once: bool = False) -> Iterator[Verdict]:
        """Yield the images that have waited too long."""
        latest = time.monotonic() - self._patience
        while self._held and (at_once or self._held[0].since < latest
                              or self.held_bytes > self._most_bytes):
            item = self._held.popleft()
            self.held_bytes -= len(item.frame.data)
            yield item.frame, SURE if item.judged else UNJUDGED

    def _take(self, chosen: Callable[[_Held], bool]) -> list[_Held]:
        """Return some of the held images, which are held no more."""
        taken = [item for item in self._held if chosen(item)]
        self._held = deque(item for item in self._held if not chosen(item))
        self.held_bytes -= sum(len(item.frame.data) for item in taken)
        return taken


def _stamp(frame: SerializedImage) -> int:
    try:
        return frame.header()[0] or frame.time
    except ValueError:
        return frame.time


def _deserialised(frame: SerializedImage) -> Image | CompressedImage:
    return deserialise(Message(frame.topic.name, frame.topic.type, frame.time, frame.data))


@dataclass(frozen=True)
class PolicyParameter:
    """A number that shapes a policy: its default, what it means, and its lowest and highest."""

    default: int | float
    description: str
    bounds: tuple[int, int] | tuple[float, float]


@dataclass(frozen=True)
class PolicyEntry:
    """
    What there is to know of a policy.

    `keeps` says which images, in a few words. `build` makes it of its `parameters`' values and of
    the bytes of images that it may hold. `outcomes` are why it does not keep an image. One that
    `needs_confidence` is told of the model's, by `learn`.
    """

    keeps: str
    build: Callable[[Mapping[str, Any], int], Policy]
    parameters: Mapping[str, PolicyParameter] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    needs_confidence: bool = False


POLICIES = {
    'all': PolicyEntry('all', lambda values, most_bytes: KeepAll()),
    'rate': PolicyEntry(
        'some a second', lambda values, most_bytes: RateLimit(values['rate']),
        {'rate': PolicyParameter(1.0, 'images a second of each topic, at most.',
                                 (0.001, 1000.0))},
        {TOO_SOON: 'too soon after the last one that was kept'}),
    'novel': PolicyEntry(
        'those that differ from the last one kept',
        lambda values, most_bytes: Novel(values['novel_bits']),
        {'novel_bits': PolicyParameter(
            4, 'bits of 64 of the dHash in which an image must differ by more.', (0, 63))},
        {SIMILAR: 'too much like the last one that was kept'}),
    'uncertain': PolicyEntry(
        'those of which the model is unsure',
        lambda values, most_bytes: Uncertain(values['uncertain_below'], values['patience'],
                                             most_bytes),
        {'uncertain_below': PolicyParameter(
            0.8, 'mean confidence below which an image is kept.', (0.0, 1.0)),
         'patience': PolicyParameter(
             2.0, 'seconds that an image waits for its confidence.', (0.1, 60.0))},
        {SURE: 'the model was sure of it', UNJUDGED: 'the model did not judge it'},
        needs_confidence=True),
}
"""The policies by name."""
