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
from univseg_core.pictures.bitstreams import (
    FrameNumbers,
    has_idr,
    has_keyframe,
    has_picture,
    may_lead,
    ParameterSets,
)
from univseg_core.pictures.slices import SliceStarts
from univseg_core.pictures.video_file import VideoError

if TYPE_CHECKING:
    import av

DECODERS = {'h264': 'h264', 'hevc': 'hevc', 'av1': 'libdav1d', 'vp9': 'vp9'}
"""FFmpeg's decoders of the codecs of video.CODECS, of those that need no graphics card."""

OPTIONS: dict[str, dict[str, str]] = {
    # Of a stream that does not say how far its pictures are reordered, all that may be is waited
    # for.
    'h264': {'strict': 'strict'},
    'hevc': {},
    'av1': {'max_frame_delay': '1'},  # a picture at a time, as with the others
    'vp9': {},
}

MOST_THREADS = 16
"""Beyond which FFmpeg itself warns: a picture has not so many slices."""

ROOM_TO_ALIGN = 2
"""How many times limits.PIXELS a decoder may take, as it aligns rows; pictures are held to it."""

AHEAD = 64
"""Packets behind one whose picture is not out yet, at most: codecs reorder over 16."""

NO_PYAV = "univseg frames decodes them where PyAV is installed (pip install 'av>=14')"

NO_PICTURE, NO_KEYFRAME = 'no picture came of this packet', 'no keyframe since the stream began'
PARAMETERS_ALONE = 'a packet of parameters, without a picture'
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

    Packets have numbers that grow as they were sent. Each gets one outcome, in the order in which
    pictures are to be shown, by and by; `finish` gives the last ones. Raises VideoError where PyAV
    was built without such a decoder.
    """

    def __init__(self, codec: str):
        import av
        if DECODERS[codec] not in av.codecs_available:
            raise VideoError(f'this PyAV was built without a decoder of {codec} '
                             f'({DECODERS[codec]})')
        self._codec = codec
        self._failures: type[av.FFmpegError] = av.FFmpegError
        self._context: av.VideoCodecContext | None = None
        # All that were told, and those that go before the next packet with a picture.
        self._parameters, self._ahead = ParameterSets(codec), ParameterSets(codec)
        self._frame_numbers = FrameNumbers() if codec == 'h264' else None
        self._slices = SliceStarts() if codec == 'h264' else None
        self._waiting: dict[int, None] = {}
        # The packet with which decoding began; None: one with a keyframe is awaited.
        self._keyframe: int | None = None
        self._keyframe_is_out = self._began = False
        # Whether packets since the keyframe may be such as are shown before it.
        self._leads = False

    def decode(self, number: int, data: bytes) -> Iterator[Outcome]:
        """Take a packet; yield what is known by now."""
        if not data:  # which would tell the decoder that the stream has ended
            yield from self.lose(number, 'an empty packet')
            return
        self._parameters.learn(data)
        if not has_picture(self._codec, data):
            self._ahead.learn(data)
            yield number, PARAMETERS_ALONE
            return
        data, self._ahead = bytes(self._ahead) + data, ParameterSets(self._codec)
        if self._slices and not self._slices.are_whole(data):
            yield from self.lose(number, 'a slice of it is missing')
            return
        if self._frame_numbers and not self._frame_numbers.follows(data):
            yield from self.finish()
        if not self._keyframe_is_out and has_keyframe(self._codec, data):
            self._keyframe, self._leads = number, self._codec == 'h264' and not has_idr(data)
        else:
            self._leads = self._leads and may_lead(data)
        if self._keyframe is None:
            yield number, self._without_keyframe()
            return
        self._waiting[number] = None
        try:
            frames = self._frames(number, data)
        except self._failures as error:
            if self._leads and number != self._keyframe:
                # It refers to pictures before the keyframe, and none behind it refers to it.
                del self._waiting[number]
                yield number, self._without_keyframe()
                return
            yield from self.lose(number, f'cannot be decoded ({error.strerror}): damaged, or of '
                                         f'more than {PIXELS}')
            return
        yield from self._outcomes(frames)
        for late in [each for each in self._waiting if each < number - AHEAD]:
            del self._waiting[late]
            yield late, NO_PICTURE

    def lose(self, number: int, why: str) -> Iterator[Outcome]:
        """Take note of a packet that is not there, or cannot be decoded."""
        self._waiting.pop(number, None)
        yield from self.finish()
        yield number, why

    def finish(self) -> Iterator[Outcome]:
        """Yield the outcomes of all packets that have none yet; begin anew with a keyframe."""
        if self._context:
            with suppress(self._failures):  # no picture comes of the others
                yield from self._outcomes(self._context.decode(None))
        for number in self._waiting:
            yield number, NO_PICTURE
        self._waiting.clear()
        # What FFmpeg's decoders keep of damage gets into the next picture, even of a keyframe, and
        # if they are flushed, too; libdav1d may fail for ever.
        self._context = None
        self._keyframe, self._keyframe_is_out = None, False

    def _frames(self, number: int, data: bytes) -> 'list[av.VideoFrame]':
        import av
        if self._context is None:
            context = av.CodecContext.create(DECODERS[self._codec], 'r')
            assert isinstance(context, av.VideoCodecContext)
            # With threads for several pictures at once, errors would come with other packets.
            context.thread_type = 'SLICE'
            context.thread_count = min(cpu_cores(), MOST_THREADS)
            context.options = OPTIONS[self._codec] | {
                'err_detect': 'explode',  # errors are told, not concealed
                'max_pixels': str(ROOM_TO_ALIGN * PIXELS())}
            if parameters := bytes(self._parameters):
                context.extradata = parameters
            self._context = context
        packet = av.Packet(data)
        packet.pts = number
        return self._context.decode(packet)

    def _without_keyframe(self) -> str:
        return AFTER_DAMAGE if self._began else NO_KEYFRAME

    def _outcomes(self, frames: 'list[av.VideoFrame]') -> Iterator[Outcome]:
        for frame in frames:
            number = frame.pts
            if number not in self._waiting:
                continue  # concealed, of a packet that was told to be damaged
            del self._waiting[number]
            # What is shown before its keyframe refers to pictures that are not there.
            if number == self._keyframe:
                self._keyframe_is_out = self._began = True
            if frame.is_corrupt:
                self._keyframe, self._keyframe_is_out = None, False
            if not self._keyframe_is_out:
                yield number, self._without_keyframe()
            elif frame.width * frame.height > PIXELS():
                yield number, f'{frame.width}x{frame.height} pixels, more than {PIXELS}'
            else:
                yield number, frame


def picture_of(frame: 'av.VideoFrame') -> np.ndarray:
    """Return a decoded frame, (H, W, 3) uint8 BGR."""
    return frame.to_ndarray(format='bgr24')
