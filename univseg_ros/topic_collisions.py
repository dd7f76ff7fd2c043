"""Topics of a node's cameras that collide, with one another or with what the node publishes."""

from collections.abc import Collection, Mapping


def topic_objection(images: Mapping[str, str], infos: Mapping[str, str],
                    outputs: Mapping[str, Collection[str]]) -> str:
    """
    Say why cameras cannot have these topics; an empty text means that they can.

    They are by the cameras' names. Two `outputs` of one camera may have one topic: of two domains,
    one alone may be active.
    """
    seen: dict[str, str] = {}
    own: dict[str, str] = {}
    for name, topics in outputs.items():
        for topic in topics:
            if own.setdefault(topic, name) != name:
                return (f'outputs of {own[topic]} and {name} are both to be published on '
                        f'{topic}: remap one of them to another')
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
