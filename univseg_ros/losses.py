"""Images that the middleware lost on their way: how many, as it says itself."""

from collections import deque
from collections.abc import Callable, Iterable
import time
from typing import Any

from rclpy.subscription import Subscription, SubscriptionEventCallbacks

WINDOW = 10.0
"""Seconds that `recent` looks back."""

ADVICE = ('they are too large for it, or the connection is too slow; docs/setups.md, large '
          'images, has what helps')


class Losses:
    """How many messages of a topic the middleware lost; `total` is None where it does not tell."""

    def __init__(self) -> None:
        self.total: int | None = 0
        self._recent: deque[tuple[float, int]] = deque()

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
        return f'{lost} {what} of the last {WINDOW:.0f} s were lost by the middleware: {ADVICE}'

    def watch(self, subscribe: Callable[[SubscriptionEventCallbacks], Subscription],
              incompatible_qos: Callable | None = None) -> Subscription:
        """
        Return the subscription that a function makes with the callbacks given to it.

        `incompatible_qos` is that of the callbacks; rclpy's own warns.
        """
        try:
            return subscribe(SubscriptionEventCallbacks(
                message_lost=self._note, incompatible_qos=incompatible_qos))
        except RuntimeError:  # a middleware that has no such event
            self.total = None
            return subscribe(SubscriptionEventCallbacks(incompatible_qos=incompatible_qos))

    def _note(self, event: Any) -> None:  # of a type that rclpy has from C++
        self.add(event.total_count_change)


def total(losses: Iterable[Losses]) -> str:
    """Return how many messages of some topics were lost; `unknown` where one does not tell."""
    totals = [each.total for each in losses]
    return 'unknown' if None in totals else str(sum(count for count in totals if count))
