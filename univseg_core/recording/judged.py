"""Policies by what the segmentation node says of each image."""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
import time

from univseg_core.bags.reading import BagError
from univseg_core.bags.topics import Topic
from univseg_core.recording.node_texts import recognition_of
from univseg_core.recording.policy import KEPT, mean_confidence, Policy, Verdict
from univseg_core.recording.serialized_image import SerializedImage

UNJUDGED, SURE, FAMILIAR = 'unjudged', 'sure', 'familiar'

JUDGEMENTS_KEPT = 1000
"""Judgements that are remembered for images that come after them."""

Key = tuple[int, bytes]
"""By what an image and a judgement belong together: stamp in nanoseconds, and frame_id."""


@dataclass
class _Held:
    frame: SerializedImage
    key: Key
    since: float
    judged: bool = False


class Judged(Policy):
    """
    Keeps images that a judgement of the segmentation node is in favour of.

    An image waits for the judgement of its stamp and frame_id for `patience` seconds at most, or
    until those that wait have more than `most_bytes`; the judgement may also come before it. Of
    several judgements, one in favour is enough. `dull` is the outcome where all are against.
    """

    def __init__(self, dull: str, patience: float, most_bytes: int):
        self._dull = dull
        self._patience = patience
        self._most_bytes = most_bytes
        self._held: deque[_Held] = deque()
        self._in_favour: dict[Key, bool] = {}
        self._topics: dict[str, Topic] = {}
        self.held_bytes = 0

    @abstractmethod
    def judgement(self, evidence: SerializedImage) -> tuple[Key, bool]:
        """Return whether a message is in favour of an image, and of which; else ValueError."""

    def kept(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield what becomes of an image that a judgement is in favour of."""
        yield frame, KEPT

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Hold the image; yield those that have waited too long, or whose topic has changed."""
        name = frame.topic.name
        if self._topics.setdefault(name, frame.topic) != frame.topic:
            # Or they would come after images of the new one, and each begin another bag.
            self._topics[name] = frame.topic
            for item in self._take(lambda item: item.frame.topic.name == name):
                yield item.frame, self._outcome(item)
        try:
            key = frame.header()
        except ValueError:
            yield frame, UNJUDGED
            return
        in_favour = self._in_favour.get(key)
        if in_favour:
            yield from self.kept(frame)
            return
        self._held.append(_Held(frame, key, time.monotonic(), judged=in_favour is not None))
        self.held_bytes += len(frame.data)
        yield from self.overdue()

    def learn(self, evidence: SerializedImage) -> Iterator[Verdict]:
        """Yield the images of a judgement, if it is in favour."""
        try:
            key, in_favour = self.judgement(evidence)
        except (ValueError, BagError):
            return
        self._in_favour[key] = in_favour or self._in_favour.get(key, False)
        if len(self._in_favour) > JUDGEMENTS_KEPT:
            del self._in_favour[next(iter(self._in_favour))]
        if in_favour:
            for item in self._take(lambda item: item.key == key):
                yield from self.kept(item.frame)
        for item in self._held:
            item.judged |= item.key == key

    def overdue(self, at_once: bool = False) -> Iterator[Verdict]:
        """Yield the images that have waited too long."""
        latest = time.monotonic() - self._patience
        while self._held and (at_once or self._held[0].since < latest
                              or self.held_bytes > self._most_bytes):
            item = self._held.popleft()
            self.held_bytes -= len(item.frame.data)
            yield item.frame, self._outcome(item)

    def _outcome(self, item: _Held) -> str:
        return self._dull if item.judged else UNJUDGED

    def _take(self, chosen: Callable[[_Held], bool]) -> list[_Held]:
        """Return some of the held images, which are held no more."""
        taken = [item for item in self._held if chosen(item)]
        self._held = deque(item for item in self._held if not chosen(item))
        self.held_bytes -= sum(len(item.frame.data) for item in taken)
        return taken


class Uncertain(Judged):
    """
    Keeps images of which the mean confidence is below `below`, 0..1.

    With several domains, the lowest confidence counts.
    """

    def __init__(self, below: float, patience: float, most_bytes: int):
        super().__init__(SURE, patience, most_bytes)
        self._below = below

    def judgement(self, evidence: SerializedImage) -> tuple[Key, bool]:
        """Return whether a picture of confidences is dark, and of which image it is."""
        return evidence.header(), mean_confidence(evidence) < self._below


class Unfamiliar(Judged):
    """
    Keeps images that are unlike all that the model was trained on.

    That is an unfamiliarity of `least` or more; 1 % of its own training images are above 1. Of
    these, `limit` keeps some, since a strange place is strange in every frame.
    """

    def __init__(self, least: float, limit: Policy, patience: float, most_bytes: int):
        super().__init__(FAMILIAR, patience, most_bytes)
        self._least = least
        self._limit = limit

    def judgement(self, evidence: SerializedImage) -> tuple[Key, bool]:
        """Return whether a recognition says so, and of which image it is."""
        stamp, frame_id, unfamiliarity = recognition_of(evidence.text())
        return (stamp, frame_id), unfamiliarity >= self._least

    def kept(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield the image, kept if it is its topic's turn."""
        return self._limit.judge(frame)
