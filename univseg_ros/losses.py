"""Images that the middleware lost on their way: how many, as far as it tells."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
import time
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription, SubscriptionEventCallbacks

WINDOW = 10.0
"""Seconds that `recent` looks back."""

ADVICE = ('they are too large for it, or the connection is too slow; docs/setups.md, large '
          'images, has what helps')

NUMBER = 'publication_sequence_number'
"""What a message's info has for its place among those of its publisher; None where it has not."""

NO_INFO = {'received_timestamp': 0, 'source_timestamp': 0, NUMBER: None}

Info = Mapping[str, Any]
"""What rclpy tells of a message beside it."""


class Losses:
    """
    How many messages of a topic the middleware lost; `total` is None where nothing tells.

    The middleware itself counts them. Where it does not, they are the gaps in the publisher's
    sequence, with those that gave way to newer ones in the queue; where there are several
    publishers, whose numbers are mixed, nothing tells.
    """

    def __init__(self) -> None:
        self.total: int | None = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._by_gaps = False
        self._number: int | None = None
        self._publishers: list[tuple[int, ...]] = []

    def add(self, count: int) -> None:
        """Count messages that were lost."""
        self.total = (self.total or 0) + count
        self._recent.append((time.monotonic(), count))

    def recent(self) -> int:
        """Return how many were lost in the last WINDOW seconds."""
        while self._recent and self._recent[0][0] <= time.monotonic() - WINDOW:
            self._recent.popleft()
        return sum(count for _, count in self._recent)

    def told(self, what: str) -> str:
        """Say how many of `what` were lost of late; an empty text where none was."""
        if not (lost := self.recent()):
            return ''
        queue = ', or gave way in its queue' if self._by_gaps else ''
        return (f'{lost} {what} of the last {WINDOW:.0f} s were lost by the middleware{queue}: '
                f'{ADVICE}')

    def watch(self, subscribe: Callable[[SubscriptionEventCallbacks], Subscription],
              incompatible_qos: Callable | None = None) -> Subscription:
        """
        Return the subscription that a function makes with the callbacks given to it.

        `incompatible_qos` is that of the callbacks; rclpy's own warns.
        """
        self._number = None  # what came between two subscriptions is not lost
        try:
            return subscribe(SubscriptionEventCallbacks(
                message_lost=self._note, incompatible_qos=incompatible_qos))
        except RuntimeError:  # a middleware that has no such event
            subscription = subscribe(SubscriptionEventCallbacks(incompatible_qos=incompatible_qos))
            if not self._by_gaps:
                self.total, self._by_gaps = None, True
            return subscription

    def see(self, node: Node, topic: str, info: Info) -> None:
        """Look for a gap before a message, where the middleware does not count by itself."""
        if not self._by_gaps or (number := info.get(NUMBER)) is None:
            return
        before, self._number = self._number, number
        if before is not None and number == before + 1:
            self.total = self.total or 0
            return
        publishers = sorted(tuple(publisher.endpoint_gid)
                            for publisher in node.get_publishers_info_by_topic(topic))
        same = len(publishers) == 1 and publishers == self._publishers
        self._publishers = publishers
        if same and before is not None and number > before:
            self.add(number - before - 1)

    def _note(self, event: Any) -> None:  # of a type that rclpy has from C++
        self.add(event.total_count_change)


def with_info(receive: Callable[[Any, Info], None]) -> Callable:
    """Return a callback of a subscription that takes a message and its info."""
    if hasattr(Subscription, 'CallbackType'):
        return receive
    return lambda message: receive(message, NO_INFO)  # Humble tells nothing


def total(losses: Iterable[Losses]) -> str:
    """Return how many messages of some topics were lost; `unknown` where one does not tell."""
    totals = [each.total for each in losses]
    return 'unknown' if None in totals else str(sum(count for count in totals if count))
