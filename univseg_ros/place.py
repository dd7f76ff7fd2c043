"""Where a camera is: the domain that its images tell, announced; somebody may pin it."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
import json
import math
import threading

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
    change, by any thread; `is_auto` says whether the images are asked at all.
    """

    def __init__(self, node: ManagedNode, prefix: str, domains: Collection[str],
                 is_auto: Callable[[], bool], on_change: Callable[[], None]):
        self._node = node
        self._is_auto = is_auto
        self._on_change = on_change
        self._decision = DomainDecision()
        self._announced: tuple[str | None, str] | None = None
        self._lock = threading.Lock()  # of two announcements, the later is the one that stays
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

    def begin(self, *, anew: bool = False) -> None:
        """
        Forget what the images told: those that come may be from anywhere.

        A domain that is pinned stays so, unless it begins `anew`.
        """
        self._decision = DomainDecision(None if anew else self._decision.pinned)
        self._announced = None
        if self._is_auto():
            self._announce(self._node.get_clock().now().nanoseconds)

    def is_watched(self) -> bool:
        """Return whether somebody wants to know the domain, whatever is segmented."""
        return bool(self._domain.get_subscription_count()
                    or self._recognition.get_subscription_count())

    def see(self, recognition: Recognition, rule: DecisionRule) -> Decision:
        """Return what is decided for a frame, which is taken into account."""
        return self._decision.see(recognition, rule)

    def publish(self, recognition: Recognition, decision: Decision, header: Header) -> None:
        """Tell what a frame seems to be and, where that has changed, what is decided."""
        self._announce(nanoseconds(header.stamp), decision)
        if self._recognition.get_subscription_count():
            self._recognition.publish(String(data=json.dumps({
                'stamp': nanoseconds(header.stamp), 'frame_id': header.frame_id,
                'domain': decision.domain,
                'probabilities': {name: round(value, 4)
                                  for name, value in recognition.probabilities.items()},
                'unfamiliarity': round(recognition.unfamiliarity, 3)})))

    def _announce(self, stamp: int, of_frame: Decision | None = None) -> None:
        """Tell what is decided, if that is what a frame decided, and if it has changed."""
        with self._lock:
            now = self._decision.now
            if of_frame not in (None, now):
                return  # somebody decided otherwise while the frame was in work, and told it
            before, self._announced = self._announced, (now.domain, now.state)
            if before != self._announced:
                self._domain.publish(String(data=json.dumps(_told(now, stamp))))
        if before != self._announced:
            self._on_change()

    def _serve(self, name: str, act: Callable[[], str]) -> None:
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if not self._is_auto():
                response.message = 'active_domains is not auto: there is nothing to pin or release'
                return response
            response.success, response.message = True, act()
            self._announce(self._node.get_clock().now().nanoseconds)
            return response

        self._services.append(self._node.create_service(Trigger, name, answer))

    def _pin(self, name: str) -> str:
        self._decision.pin(name)
        return f'{name} until it is released'

    def _release(self) -> str:
        self._decision.release()
        return 'the next frame decides'


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
