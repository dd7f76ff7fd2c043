"""
Packets of a video → pictures, by PyAV (FFmpeg), which is imported here alone.

A packet needs those before it, back to a keyframe. Behind one that is damaged or lost, decoders go
on with what they have, and show smears; here nothing is taken of that until the next keyframe.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from univseg_core.files.limits import PIXELS
from univseg_core.machine.processors import cpu_cores
from univseg_core.pictures.bitstreams import FrameNumbers, has_keyframe

if TYPE_CHECKING:
    import av

DECODERS = {'h264': 'h264', 'hevc': 'hevc', 'av1': 'libdav1d', 'vp9': 'vp9'}
"""FFmpeg's decoders of the codecs of video.CODECS, of those that need no graphics card."""

OPTIONS = {
    'err_detect': 'explode',  # errors are told, not concealed
    'strict': 'strict',  # H.264 that does not say how far its pictures are reordered: wait for all
}

MOST_THREADS = 16
"""Beyond which FFmpeg itself warns: a picture has not so many slices."""

ROOM_TO_ALIGN = 2
"""How many times limits.PIXELS a decoder may take, as it aligns rows; pictures are held to it."""

AHEAD = 64
"""Packets behind one whose picture is not out yet, at most: codecs reorder over 16."""

NO_PYAV = "univseg frames decodes them where PyAV is installed (pip install 'av>=14')"

NO_PICTURE, NO_KEYFRAME = 'no picture came of this packet', 'no keyframe since the stream began'
AFTER_DAMAGE = 'comes after a packet that is damaged or lost, and before the next keyframe'

Outcome: TypeAlias = 'tuple[int, av.VideoFrame | str]'
"""The number of a packet, and its picture, or why there is none."""


def has_pyav() -> bool:
    """Return whether PyAV is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class PacketDecoder:
    """
    The decoder of one stream, whose codec is one of DECODERS.

    Packets are numbered from 0 as they were sent. Each gets one outcome, in the order in which
    pictures are to be shown, by and by; `finish` gives the last ones.
    """

    def __init__(self, codec: str):
        import av
        self._codec = codec
        self._failures = av.error.FFmpegError
        self._packet = av.Packet
        self._context = av.CodecContext.create(DECODERS[codec], 'r')
        # With threads for several pictures at once, errors would come with other packets.
        self._context.thread_type = 'SLICE'
        self._context.thread_count = min(cpu_cores(), MOST_THREADS)
        options = OPTIONS | {'max_pixels': str(ROOM_TO_ALIGN * PIXELS())}
        if codec == 'av1':
            options['max_frame_delay'] = '1'
        self._context.options = options
        self._frame_numbers = FrameNumbers() if codec == 'h264' else None
        self._waiting: dict[int, None] = {}
        # Numbers of packets of which, and behind which, nothing is right but a keyframe.
        self._breaks = [0]
        self._began = False

    def decode(self, number: int, data: bytes) -> Iterator[Outcome]:
        """Take a packet; yield what is known by now."""
        if self._frame_numbers and not self._frame_numbers.follows(data):
            self._break(number)
        self._waiting[number] = None
        packet = self._packet(data)
        packet.pts = number
        try:
            frames = self._context.decode(packet)
        except (self._failures, MemoryError, ValueError, NotImplementedError) as error:
            yield from self.lose(number, self._why(data, error))
            return
        yield from self._outcomes(frames)
        for late in [each for each in self._waiting if each < number - AHEAD]:
            del self._waiting[late]
            yield late, NO_PICTURE

    def lose(self, number: int, why: str) -> Iterator[Outcome]:
        """Take note of a packet that is not there, or cannot be decoded."""
        self._waiting.pop(number, None)
        self._break(number)
        yield number, why

    def finish(self) -> Iterator[Outcome]:
        """Yield the outcomes of all packets that have none yet; none may follow."""
        with suppress(self._failures, MemoryError, ValueError):  # no picture comes of the others
            yield from self._outcomes(self._context.decode(None))
        for number in self._waiting:
            yield number, NO_PICTURE
        self._waiting.clear()

    def _outcomes(self, frames: 'list[av.VideoFrame]') -> Iterator[Outcome]:
        for frame in frames:
            number = frame.pts
            if number not in self._waiting:
                continue  # concealed, of a packet that was told to be damaged
            del self._waiting[number]
            if frame.is_corrupt:
                self._break(number)
            elif frame.key_frame:
                self._breaks = [each for each in self._breaks if each > number]
                self._began = True
            if any(each <= number for each in self._breaks):
                yield number, AFTER_DAMAGE if self._began else NO_KEYFRAME
            elif frame.width * frame.height > PIXELS():
                yield number, f'{frame.width}x{frame.height} pixels, more than {PIXELS}'
            else:
                yield number, frame

    def _break(self, number: int) -> None:
        self._breaks.append(number)
        if len(self._breaks) > AHEAD:  # no keyframe is between the first two, or it would be out
            del self._breaks[1]

    def _why(self, data: bytes, error: Exception) -> str:
        if not (self._began or has_keyframe(self._codec, data)):
            return NO_KEYFRAME
        return f'cannot be decoded ({error}): damaged, or of more than {PIXELS}'


def picture_of(frame: 'av.VideoFrame') -> np.ndarray:
    """Return a decoded frame, (H, W, 3) uint8 BGR."""
    return frame.to_ndarray(format='bgr24')
