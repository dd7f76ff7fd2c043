"""Where a camera is: the domain that its images tell, announced; somebody may pin it."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
import json
import math
import threading

from rclpy.lifecycle import LifecyclePublisher
from rclpy.service import Service
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from univseg_core.inference.domain_decision import Decision, DecisionRule, DomainDecision
from univseg_core.models.domain_evidence import Recognition
from univseg_core.pictures.image_messages import nanoseconds
from univseg_ros.managed_node import ManagedNode
from univseg_ros.qos import LATCHED_QOS

AUTO = ['auto']
"""The value of `active_domains` by which images tell the domain."""


class Place:
    """
    The decision on a camera's domain, with its topics and services below `prefix`.

    `domain` (latched) says what is decided, and `recognition` what each frame seems to be;
    DOMAIN/pin decides, release leaves it to the images again. `on_change` is called after each
    change, by any thread; `objection` says why nothing can be pinned now, '' where it can.
    Who listens to `active_domains` wants to know the domain, too.
    """

    def __init__(self, node: ManagedNode, prefix: str, domains: Collection[str],
                 active_domains: LifecyclePublisher, objection: Callable[[], str],
                 on_change: Callable[[], None]):
        self._node = node
        self._active_domains = active_domains
        self._objection = objection
        self._on_change = on_change
        self._decision = DomainDecision()
        self._announced: Decision | None = None
        self._lock = threading.Lock()  # of two announcements, that of the later decision stays
        self._services: list[Service] = []
        self._domain = node.create_lifecycle_publisher(String, f'{prefix}/domain', LATCHED_QOS)
        self._recognition = node.create_lifecycle_publisher(String, f'{prefix}/recognition', 1)
        for name in domains:
            self._serve(f'{prefix}/{name}/pin', partial(self._pin, name))
        self._serve(f'{prefix}/release', self._release)

    def close(self) -> None:
        """Take back the topics and services."""
        for service in self._services:
            self._node.destroy_service(service)
        self._services.clear()
        for publisher in (self._domain, self._recognition):
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def now(self) -> Decision:
        """Return what is decided."""
        return self._decision.now

    def begin(self) -> None:
        """Forget what the images told, not what is pinned: those that come may be of anywhere."""
        self._announce_now(self._decision.restart(), again=True)

    def end(self) -> None:
        """Forget what is pinned, too, and say that the images are not asked any more."""
        self._announce_now(self._decision.end(), again=True)

    def is_watched(self) -> bool:
        """Return whether somebody wants to know the domain, whatever is segmented."""
        return any(publisher.get_subscription_count() for publisher in (
            self._domain, self._recognition, self._active_domains))

    def see(self, recognition: Recognition, rule: DecisionRule) -> Decision:
        """Return what is decided for a frame, which is taken into account."""
        return self._decision.see(recognition, rule)

    def publish(self, recognition: Recognition, decision: Decision, header: Header) -> None:
        """Tell what a frame seems to be and, where that has changed, what is decided."""
        self._announce(decision, nanoseconds(header.stamp))
        if self._recognition.get_subscription_count():
            self._recognition.publish(String(data=json.dumps({
                'stamp': nanoseconds(header.stamp), 'frame_id': header.frame_id,
                'domain': decision.domain,
                'probabilities': {name: round(value, 4)
                                  for name, value in recognition.probabilities.items()},
                'unfamiliarity': round(recognition.unfamiliarity, 3)})))

    def _announce(self, decision: Decision, stamp: int, *, again: bool = False) -> None:
        """Tell a decision unless there is a later one, or it is as before, unless `again`."""
        with self._lock:
            before = self._announced
            if before is not None and decision.number < before.number:
                return  # somebody has pinned another meanwhile
            self._announced = decision
            if not again and before is not None and (before.domain, before.state) == (
                    decision.domain, decision.state):
                return
            self._domain.publish(String(data=json.dumps(_told(decision, stamp))))
        self._on_change()

    def _announce_now(self, decision: Decision, *, again: bool = False) -> None:
        self._announce(decision, self._node.get_clock().now().nanoseconds, again=again)

    def _serve(self, name: str, act: Callable[[], tuple[bool, str]]) -> None:
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.message = self._objection()
            if not response.message:
                response.success, response.message = act()
            return response

        self._services.append(self._node.create_service(Trigger, name, answer))

    def _pin(self, name: str) -> tuple[bool, str]:
        self._announce_now(self._decision.pin(name))
        return True, f'{name} until it is released'

    def _release(self) -> tuple[bool, str]:
        decision = self._decision.release()
        if decision is None:
            return False, 'nothing is pinned'
        self._announce_now(decision)
        return True, 'the next frame decides'


def _told(decision: Decision, stamp: int) -> dict[str, object]:
    """Return what ~/domain says; `stamp` in ns is that of the first frame of which it holds."""
    unknown = math.isnan(decision.unfamiliarity)
    return {'domain': decision.domain, 'state': decision.state,
            'probability': round(decision.probability, 4),
            'unfamiliarity': None if unknown else round(decision.unfamiliarity, 3),
            'since': stamp, 'why': decision.why, 'pinned': decision.state == 'pinned'}


class Seen:
    """A frame before the place: asked once for its domains, whatever becomes of it."""

    def __init__(self, place: Place, header: Header, rule: DecisionRule,
                 watched: Collection[str]):
        self._place, self._header, self._rule, self._watched = place, header, rule, watched
        self._recognition: Recognition | None = None
        self.decision = place.now

    def __call__(self, recognition: Recognition) -> Sequence[str]:
        """Return the domain that is decided on, if somebody watches it."""
        if self._recognition is None:  # else memory ran out, and it is tried once more
            self._recognition = recognition
            self.decision = self._place.see(recognition, self._rule)
        domain = self.decision.domain
        return [domain] if domain is not None and domain in self._watched else []

    def publish(self) -> None:
        """Tell what the frame seems to be, before its outputs are published."""
        if self._recognition is not None:
            self._place.publish(self._recognition, self.decision, self._header)
