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

CODECS = {
    'h264': re.compile(r'h\.?264|x264|avc', re.IGNORECASE),
    'hevc': re.compile(r'h\.?265|x265|hevc', re.IGNORECASE),
    'av1': re.compile(r'av1', re.IGNORECASE),
    'vp9': re.compile(r'vp9', re.IGNORECASE),
}
"""
What is decoded here, and how messages name it: by the codec, or as older versions of
ffmpeg_image_transport did by the encoder (libx264, hevc_nvenc).
"""

H264_BEGINNINGS, HEVC_BEGINNINGS = (6, 7, 8, 9), (32, 33, 34, 35)
"""Types of the units of H.264 and H.265 with which a keyframe's packet begins."""

ADVICE = ('make images of it where it is played: ros2 run image_transport republish (in_transport '
          '{transport}, out_transport compressed), as docs/frames.md has it')


def video_format(message: Any) -> str:
    """Return what a CompressedImage says of its packet of a video; an empty text of an image."""
    if not hasattr(message, 'format'):
        return ''
    if FORMAT.search(message.format):
        return message.format[:60]
    return 'h264 or h265' if bytes(message.data[:4]).startswith(START_CODES) else ''


def packet_format(message: Any) -> str:
    """Return what a message says of the packet of a video in it."""
    return message.encoding if hasattr(message, 'encoding') else message.format


def codec_of(message: Any) -> str:
    """
    Return which of CODECS the packet of a message is of; '' where that is not told.

    The message is a CompressedImage, or one of the first two types in TRANSPORTS.
    """
    # ffmpeg_image_transport adds formats of pixels to the codec: h264;yuv420p;bgr8;bgr8.
    text = packet_format(message)
    if hasattr(message, 'encoding'):
        text = text.partition(';')[0]
    for codec, names in CODECS.items():
        if names.search(text):
            return codec
    return '' if text else _codec_by_beginning(bytes(message.data[:6]))


def _codec_by_beginning(data: bytes) -> str:
    for start in START_CODES:
        if data.startswith(start) and len(data) > len(start):
            first = data[len(start)]
            # Its type is in the upper 7 bits of one of H.265, and in the lower 5 of one of H.264.
            if not first & 1 and first >> 1 in HEVC_BEGINNINGS:
                return 'hevc'
            return 'h264' if first & 0x1f in H264_BEGINNINGS else ''
    return ''


def refusal(codec: str) -> str:
    """Say why a message of a format that `video_format` found is no image, and what to do."""
    return f'a packet of a video ({codec}), not an image; {ADVICE.format(transport="ffmpeg")}'


def video_topics(types: Mapping[str, str]) -> str:
    """Say which topics, given with their types, hold packets of a video; empty where none does."""
    return '; '.join(
        f'{topic} ({type_}) holds packets of a video: '
        f'{ADVICE.format(transport=TRANSPORTS[type_])}'
        for topic, type_ in sorted(types.items()) if type_ in TRANSPORTS)
