"""Which topics are those of cameras, and which those of segmentation nodes."""

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

IMAGE, COMPRESSED_IMAGE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
TEXT = 'std_msgs/msg/String'
TYPES = {IMAGE: Image, COMPRESSED_IMAGE: CompressedImage}


def camera_topics(node: Node) -> dict[str, list[str]]:
    """Return the types of each topic of images that others than segmentation nodes publish."""
    known = node.get_topic_names_and_types()
    outputs = segmentation_nodes(node)
    return {topic: types for topic, types in sorted(known)
            if TYPES.keys() & types
            and not topic.startswith(outputs) and node.count_publishers(topic)}


def segmentation_nodes(node: Node) -> tuple[str, ...]:
    """Return the beginnings of what segmentation nodes publish, such as /univseg/."""
    return tuple(topic.removesuffix('active_domains')
                 for topic, _ in node.get_topic_names_and_types()
                 if topic.endswith('/active_domains'))


def node_outputs(node: Node, name: str, type_: str) -> list[str]:
    """Return the topics of a type and last name that segmentation nodes publish."""
    outputs = segmentation_nodes(node)
    return sorted(topic for topic, types in node.get_topic_names_and_types()
                  if topic.startswith(outputs) and topic.endswith(f'/{name}') and type_ in types)
