"""What lets a flight recorder write: domains that become none, errors on /diagnostics."""

from collections.abc import Callable, Collection
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.subscription import Subscription, SubscriptionEventCallbacks
from rclpy.timer import Timer
from std_msgs.msg import String
from univseg_core.recording.node_texts import domain_of
from univseg_core.recording.policies import CONFIDENCE
from univseg_core.recording.serialized_image import text_in
from univseg_ros.qos import LATCHED_QOS, no_warning
from univseg_ros.timers import steady_timer

DOMAIN, DIAGNOSTICS = 'domain', 'diagnostics'
CONDITIONS = (CONFIDENCE, DOMAIN, DIAGNOSTICS)
"""What may let a flight recorder write; of the confidence it judges itself."""

MATCH_PERIOD = 1.0
"""Seconds between two looks at the topics of domains."""

DIAGNOSTICS_DEPTH = 100
MOST_ERRORS = 1000
"""Statuses in error that are remembered, so that each is told once."""


class FlightConditions:
    """
    Calls `trigger` with the reason when a condition begins to hold.

    That is when a node's domain changes from one to none, and when a status becomes an error.
    `domain_topics` names the topics of domains, and is asked again and again. `names` are the
    statuses that count, or the nodes that they are of; none stands for all but this node's own.
    Texts that do not come from a segmentation node are ignored.
    """

    def __init__(self, node: Node, conditions: Collection[str],
                 domain_topics: Callable[[], Collection[str]], names: Collection[str],
                 trigger: Callable[[str], object]):
        self._node = node
        self._find = domain_topics
        self._names = [name.lstrip('/') for name in names]
        self._own = node.get_fully_qualified_name().lstrip('/')
        self._trigger = trigger
        self._subscriptions: dict[str, Subscription] = {}
        self._domains: dict[str, str | None] = {}
        self._errors: dict[str, None] = {}
        self._timer: Timer | None = None
        self._diagnostics: Subscription | None = None
        if DOMAIN in conditions:
            self._timer = steady_timer(node, MATCH_PERIOD, self._match)
            self._match()
        if DIAGNOSTICS in conditions:
            self._diagnostics = node.create_subscription(
                DiagnosticArray, '/diagnostics', self.note_diagnostics, DIAGNOSTICS_DEPTH,
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=no_warning))

    def close(self) -> None:
        """End the subscriptions."""
        self._trigger = lambda why: None  # the executor may still hold one for a moment
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        if self._diagnostics is not None:
            self._node.destroy_subscription(self._diagnostics)
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def note_domain(self, topic: str, data: bytes) -> None:
        """Take what a topic says of a node's domain, in CDR."""
        try:
            domain, is_none, why = domain_of(text_in(data))
        except ValueError:  # not from a node of ours
            return
        before = self._domains.get(topic)
        if is_none and before is not None:
            self._trigger(f'{topic} was {before}, and is none: {why}')
        if domain is not None or is_none:
            self._domains[topic] = domain

    def note_diagnostics(self, message: DiagnosticArray) -> None:
        """Take what is said on /diagnostics."""
        for status in message.status:
            if status.level != DiagnosticStatus.ERROR:
                self._errors.pop(status.name, None)
            elif status.name not in self._errors and self._counts(status.name.lstrip('/')):
                self._errors[status.name] = None
                if len(self._errors) > MOST_ERRORS:
                    del self._errors[next(iter(self._errors))]
                self._trigger(f'error of {status.name}: {status.message}')

    def _counts(self, name: str) -> bool:
        owner = name.partition(':')[0]
        if self._names:
            return name in self._names or owner in self._names
        return owner != self._own

    def _match(self) -> None:
        for topic in self._find():
            if topic not in self._subscriptions:
                self._subscriptions[topic] = self._node.create_subscription(
                    String, topic, partial(self.note_domain, topic), LATCHED_QOS,
                    event_callbacks=SubscriptionEventCallbacks(incompatible_qos=no_warning),
                    raw=True)  # rclpy raises of what is no text
            elif not self._node.count_publishers(topic):
                self._domains.pop(topic, None)  # a node that starts anew has lost nothing
