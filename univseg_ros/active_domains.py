"""Which domains the segmentation nodes say they publish."""

from rclpy.node import Node
from rclpy.subscription import Subscription, SubscriptionEventCallbacks
from std_msgs.msg import String
from univseg_core.files.records import parse_json
from univseg_ros.qos import LATCHED_QOS, no_warning


class ActiveDomains:
    """Follows `active_domains` of each segmentation node whose topics it is asked about."""

    def __init__(self, node: Node):
        self._node = node
        self._subscriptions: dict[str, Subscription] = {}
        self._domains: dict[str, list[str]] = {}

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def may_come(self, topic: str) -> bool:
        """Return False for NODE/DOMAIN/OUTPUT where NODE says that DOMAIN is not active."""
        owner, _, domain = topic.rpartition('/')[0].rpartition('/')
        if not owner:
            return True
        if owner not in self._subscriptions:
            self._subscriptions[owner] = self._node.create_subscription(
                String, f'{owner}/active_domains',
                lambda message: self._note(owner, message), LATCHED_QOS,
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=no_warning))
        return owner not in self._domains or domain in self._domains[owner]

    def _note(self, owner: str, message: String) -> None:
        try:
            self._domains[owner] = list(parse_json(message.data))
        except (ValueError, TypeError):  # not from a node of ours
            self._domains.pop(owner, None)
