"""QoS profiles, and which one a subscription takes from the publishers of its topic."""

from collections.abc import Collection

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def is_reliable(publisher: TopicEndpointInfo) -> bool:
    """Return whether a publisher offers to repeat what was lost."""
    return publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def is_latched(publisher: TopicEndpointInfo) -> bool:
    """Return whether a publisher offers its last messages to those who come later."""
    return publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL


def matching_reliability(publishers: Collection[TopicEndpointInfo]) -> ReliabilityPolicy:
    """Return reliable if all publishers are, else best effort, which matches every one."""
    return (ReliabilityPolicy.RELIABLE if all(map(is_reliable, publishers))
            else ReliabilityPolicy.BEST_EFFORT)


def matching_durability(publishers: Collection[TopicEndpointInfo]) -> DurabilityPolicy:
    """Return transient local if all publishers are, else volatile, which matches every one."""
    return (DurabilityPolicy.TRANSIENT_LOCAL if all(map(is_latched, publishers))
            else DurabilityPolicy.VOLATILE)


def no_warning(event: object) -> None:
    """Stand for rclpy's warning of a QoS that does not match, which is mended in a moment."""
