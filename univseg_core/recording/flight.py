"""A flight recorder: the last seconds are in memory, and a trigger has them written."""

from collections import deque
from collections.abc import Iterator, Mapping
import time

from univseg_core.bags.reading import BagError
from univseg_core.recording.events import Event, Trigger
from univseg_core.recording.policy import KEPT, mean_confidence, Policy, Verdict
from univseg_core.recording.serialized_image import SerializedImage

PASSED, MEMORY_FULL = 'passed', 'memory full'

LATE = 500_000_000
"""Nanoseconds, at most, that an image comes after later ones of other topics."""


class Flight(Policy):
    """
    Keeps the images of `before` seconds before a trigger, and of `after` seconds after it.

    Until then they are in memory, of which they take `most_bytes` at most: the oldest give way. A
    further trigger while an event is being written extends it. Times are those at which images
    came; a clock that was set back by more than `before` begins anew. A topic's mean confidence
    that falls below `below`, 0..1, is a trigger, too.
    """

    def __init__(self, before: float, after: float, most_bytes: int, below: float = 0.0):
        self._before = round(before * 1e9)
        self._after = round(after * 1e9)
        self._most_bytes = most_bytes
        self._below = below
        self._held: deque[SerializedImage] = deque()
        self._newest: int | None = None
        self._end = 0
        self._heard = time.monotonic()
        self._low: dict[str, bool] = {}
        self._triggers = 0
        self._last_trigger = ''
        self.held_bytes = 0

    @property
    def spare_bytes(self) -> int:
        """Return what is left in memory: images come while those before them are written."""
        return max(0, self._most_bytes - self.held_bytes)

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Hold the image, or yield it where an event is being written; let go of old ones."""
        if self._newest is not None and frame.time < self._newest - max(self._before, LATE):
            self._newest = None
            yield from self.overdue(at_once=True)
        self._newest = max(frame.time, self._newest or frame.time)
        self._hold(frame)
        yield from self._due()
        yield from self._passed(self._newest - self._before)
        while self.held_bytes > self._most_bytes:
            yield self._pop(), MEMORY_FULL

    def learn(self, evidence: SerializedImage) -> Iterator[Verdict]:
        """Yield what is written because a topic's confidence has fallen."""
        try:
            mean = mean_confidence(evidence)
        except (ValueError, BagError):
            return
        name = evidence.topic.name
        was_low = self._low.get(name, False)
        self._low[name] = mean < self._below
        if self._low[name] and not was_low:
            yield from self.trigger(Trigger(
                evidence.time, f'the mean of {name} is {mean:.2f}, below {self._below:g}'))

    def trigger(self, trigger: Trigger) -> Iterator[Verdict]:
        """Yield what is in memory, to be written."""
        self._triggers += 1
        self._last_trigger = trigger.why
        if self.event is None:
            self.event = Event()
            self._end = trigger.time + self._after
        self.event.add(trigger)
        self._end = max(self._end, trigger.time + self._after)
        yield from self._passed(trigger.time - self._before)
        yield from self._due()

    def overdue(self, at_once: bool = False) -> Iterator[Verdict]:
        """End the event that is over; `at_once`, any, and yield the images that it leaves."""
        # Where no image comes any more, their clock tells nothing.
        quiet = time.monotonic() - self._heard > (self._after + LATE) / 1e9
        if at_once or quiet or (self._newest is not None and self._newest > self._end + LATE):
            self.event = None
        while at_once and self._held:
            yield self._pop(), PASSED

    def facts(self) -> Mapping[str, int | float | str]:
        """Return how much of the time is in memory, and what happened so far."""
        try:
            held = (self._held[-1].time - self._held[0].time) / 1e9
        except IndexError:  # by the other thread, just now
            held = 0.0
        return {'held_seconds': round(held, 2), 'triggers': self._triggers,
                'last_trigger': self._last_trigger}

    def _hold(self, frame: SerializedImage) -> None:
        """Take an image to those that are held, in order of time."""
        later = []
        while self._held and self._held[-1].time > frame.time:
            later.append(self._held.pop())
        self._held.append(frame)
        self._held.extend(reversed(later))
        self.held_bytes += len(frame.data)

    def _pop(self) -> SerializedImage:
        frame = self._held.popleft()
        self.held_bytes -= len(frame.data)
        return frame

    def _due(self) -> Iterator[Verdict]:
        """Yield what is held of the event."""
        while self.event and self._held and self._held[0].time <= self._end:
            yield self._pop(), KEPT
        self._heard = time.monotonic()  # since a slow disk takes its time

    def _passed(self, begin: int) -> Iterator[Verdict]:
        """Yield what is held of earlier times."""
        while self._held and self._held[0].time < begin:
            yield self._pop(), PASSED
