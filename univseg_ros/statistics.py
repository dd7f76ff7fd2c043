"""What became of the frames, and how long they took."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
import math
import threading
import time
from typing import TypeVar

import numpy as np

Item = TypeVar('Item')

OUTCOMES = {
    'published': 'its outputs were published',
    'replaced': 'a newer frame took its place before it was looked at',
    'limited': 'it came sooner than max_rate allows',
    'unwatched': 'nobody subscribed to an output',
    'undecided': 'with active_domains auto, no domain was decided on',
    'stale': 'it was older than max_age',
    'undecodable': 'it could not be decoded',
    'failed': 'its segmentation failed',
    'stopped': 'the node was deactivated before its turn came',
}
"""What a frame can come to; each comes to one."""

WINDOW = 10.0
"""Seconds that rates, latencies and recent problems look back."""


@dataclass(frozen=True)
class FrameTimes:
    """
    How long a published frame took, in seconds.

    `latency` from its arrival to its publication, of which `inference` was the model's and
    `own_cost` the node's: decoding, drawing, making and publishing messages. The rest was waiting.
    Frames that are encoded at once have equal shares of that time. `age` is the node's clock less
    the header stamp, at publication; nan where the stamp is zero.
    """

    latency: float
    inference: float
    own_cost: float
    age: float


@dataclass(frozen=True)
class Summary:
    """
    The frames of the last WINDOW seconds.

    `counts` and `reasons` (the last one) are by outcome; rates are in Hz; `times` maps each
    field of FrameTimes to its median and 95th percentile in seconds, and is empty where nothing
    was published; `in_work` is for how many seconds the current frame has been worked on, 0 where
    there is none.
    """

    counts: Counter
    reasons: dict[str, str]
    input_rate: float
    output_rate: float
    times: dict[str, tuple[float, float]]
    in_work: float


class FrameStatistics:
    """Counts of all frames since it was made, and the recent ones; all threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = time.monotonic()
        self._received = 0
        self._totals: Counter = Counter()
        self._arrivals: deque[float] = deque()
        self._events: deque[tuple[float, str, str, FrameTimes | None]] = deque()
        self._work_began = 0.0

    def receive(self) -> None:
        """Note a frame's arrival."""
        with self._lock:
            self._received += 1
            self._arrivals.append(time.monotonic())
            _forget(self._arrivals, lambda arrival: arrival)

    def begin_work(self) -> None:
        """Note that the work on a frame begins; `note` ends it."""
        self._work_began = time.monotonic()

    def note(self, outcome: str, reason: str = '', times: FrameTimes | None = None) -> None:
        """Note what a frame came to."""
        with self._lock:
            self._totals[outcome] += 1
            self._events.append((time.monotonic(), outcome, reason, times))
            _forget(self._events, lambda event: event[0])
        if outcome not in ('replaced', 'limited', 'stopped'):  # noted while another is in work
            self._work_began = 0.0

    def totals(self) -> dict[str, int]:
        """Return the number of frames received, and of those that came to each outcome."""
        with self._lock:
            return {'received': self._received,
                    **{outcome: self._totals[outcome] for outcome in OUTCOMES}}

    def recent(self) -> Summary:
        """Return a summary of the last WINDOW seconds."""
        with self._lock:
            _forget(self._arrivals, lambda arrival: arrival)
            _forget(self._events, lambda event: event[0])
            events, arrivals = list(self._events), len(self._arrivals)
            began = self._work_began
        now = time.monotonic()
        span = max(min(WINDOW, now - self._start), 1.0)
        counts = Counter(outcome for _, outcome, _, _ in events)
        published = [vars(times) for *_, times in events if times is not None]
        columns = {name: [times[name] for times in published if not math.isnan(times[name])]
                   for name in FrameTimes.__annotations__}
        return Summary(
            counts, {outcome: reason for _, outcome, reason, _ in events if reason},
            arrivals / span, counts['published'] / span,
            {name: tuple(np.percentile(column, (50, 95)))
             for name, column in columns.items() if column},
            now - began if began else 0.0)


def _forget(items: deque[Item], time_of: Callable[[Item], float]) -> None:
    oldest = time.monotonic() - WINDOW
    # With both ends of the window, one frame too many would make a rate.
    while items and time_of(items[0]) <= oldest:
        items.popleft()
