"""Topics of a node's cameras that collide, with one another or with what the node publishes."""

from collections import Counter
from collections.abc import Collection, Mapping


def topic_objection(images: Mapping[str, str], infos: Mapping[str, str],
                    own: Collection[str]) -> str:
    """
    Say why cameras cannot have these topics; an empty text means that they can.

    Those of images and camera_info are by the cameras' names, `own` those that the node publishes.
    """
    if twice := [topic for topic, count in Counter(own).items() if count > 1]:
        return f'two outputs are to be published on {twice[0]}: remap one of them to another'
    seen: dict[str, str] = {}
    for name, topic in images.items():
        remedy = f'{topic}: remap {name and f"{name}/"}image'
        if topic in own:
            return f'the node would segment what it publishes itself on {remedy}'
        if topic in seen:
            return f'cameras {seen[topic]} and {name} both subscribe to {remedy}'
        seen[topic] = name
    for name, topic in infos.items():
        if topic in seen:
            return (f'the camera_info of {name or "the camera"} cannot come on {topic}, where '
                    f'images come: remap {name and f"{name}/"}camera_info')
    return ''


def info_objections(topics: Mapping[str, str]) -> dict[str, str]:
    """Say which cameras cannot have their camera_info, by name, since it would be another's."""
    objections = {}
    for name, topic in topics.items():
        if others := [other for other in topics if other != name and topics[other] == topic]:
            objections[name] = (
                f'{topic} cannot be the camera_info of both {name} and {", ".join(others)}: the '
                f'masks of {name} get none; remap {name}/camera_info')
    return objections
