"""Why no image comes, in words: what is known of the publishers of a topic."""

from collections.abc import Collection

from rclpy.topic_endpoint_info import TopicEndpointInfo


def published_types(publishers: Collection[TopicEndpointInfo]) -> set[str]:
    """Return the types that publishers give a topic."""
    return {publisher.topic_type for publisher in publishers}


def published_by(topic: str, publishers: Collection[TopicEndpointInfo]) -> str:
    """Say who publishes a topic, for whose name another word may stand."""
    names = ', '.join(sorted({publisher.node_name for publisher in publishers}))
    return f'{topic} is published by {names}'


def published_as(topic: str, publishers: Collection[TopicEndpointInfo]) -> str:
    """Say who publishes a topic, and as which types."""
    types = ', '.join(sorted(published_types(publishers)))
    return f'{published_by(topic, publishers)} as {types}'


CAMERA_ADVICE = ('is the camera running? Or are its images too large for the middleware '
                 '(docs/setups.md, large images)?')


def nothing_sent(topic: str, publishers: Collection[TopicEndpointInfo],
                 advice: str = CAMERA_ADVICE) -> str:
    """Say that a topic is published as it should be, and nothing comes all the same."""
    return f'{published_by(topic, publishers)}, who sends nothing; {advice}'
