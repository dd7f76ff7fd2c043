"""QoS profiles, and what those of publishers say."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def is_reliable(publisher: TopicEndpointInfo) -> bool:
    """Return whether a publisher offers to repeat what was lost."""
    return publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def is_latched(publisher: TopicEndpointInfo) -> bool:
    """Return whether a publisher offers its last messages to those who come later."""
    return publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
