"""Packets of a video in ROS messages: each needs those before it, and so is no image."""

from collections.abc import Mapping
import re
from typing import Any

TRANSPORTS = {
    'ffmpeg_image_transport_msgs/msg/FFMPEGPacket': 'ffmpeg',
    'foxglove_msgs/msg/CompressedVideo': 'foxglove',
    'theora_image_transport/msg/Packet': 'theora',
}
"""The types of such messages, and the plugin of image_transport that reads them."""

FORMAT = re.compile(r'(?<![a-z0-9])(h\.?26[45]|(lib)?x26[45]|avc1?|hevc|av1|vp[89]|mpeg[124]?|mp4'
                    r'|theora)(?![a-z0-9])', re.IGNORECASE)
"""What the format of a CompressedImage names where it is one; h264_nvenc is one, too."""

START_CODES = (b'\0\0\0\1', b'\0\0\1')
"""With what a packet of H.264 or H.265 begins, whatever its message says."""

ADVICE = ('make images of it where it is played: ros2 run image_transport republish (in_transport '
          '{transport}, out_transport compressed), as docs/frames.md has it')


def video_format(message: Any) -> str:
    """Return what a CompressedImage says of its packet of a video; an empty text of an image."""
    if not hasattr(message, 'format'):
        return ''
    if FORMAT.search(message.format):
        return message.format[:60]
    return 'h264 or h265' if bytes(message.data[:4]).startswith(START_CODES) else ''


def refusal(codec: str) -> str:
    """Say why a message of a format that `video_format` found is no image, and what to do."""
    return f'a packet of a video ({codec}), not an image; {ADVICE.format(transport="ffmpeg")}'


def video_topics(types: Mapping[str, str]) -> str:
    """Say which topics, given with their types, hold packets of a video; empty where none does."""
    return '; '.join(
        f'{topic} ({type_}) holds packets of a video: '
        f'{ADVICE.format(transport=TRANSPORTS[type_])}'
        for topic, type_ in sorted(types.items()) if type_ in TRANSPORTS)
