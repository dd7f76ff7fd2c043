"""
What the packets of videos say in their first bytes, before they are decoded.

H.264 and H.265 (Annex B of ITU-T H.264 and H.265) are sequences of units, each behind a start
code; AV1 is one of OBUs (section 5.3 of its specification), a VP9 packet a frame with a header
(section 6.2). FFmpeg's parsers know it all, but PyAV gives none of it.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

START_CODE = b'\0\0\1'

HEADER_BYTES = 4096
"""Of a unit, in which all that is read of it stands: parameters are rarely a hundred."""

# Types of units: of H.264, 7.4.1; of H.265, 7.4.2.2, where the first 10 are slices of no keyframe.
SLICE, KEY_SLICE, SEQUENCE, PICTURE = 1, 5, 7, 8
HEVC_VIDEO, HEVC_SEQUENCE = 32, 33
HEVC_KEYS = {*range(16, 24), 32, 33}
HEVC_SLICES = range(16)

PARAMETERS = {'h264': (0, 0x1f, (SEQUENCE, PICTURE)), 'hevc': (1, 0x3f, (32, 33, 34))}
"""Where in its first byte a unit's type stands, and which types hold parameters."""

PICTURE_UNITS = {'h264': range(1, 6), 'hevc': range(32)}
"""The types of units that hold slices of pictures."""

B_SLICE = 1  # of H.264, 7.4.3, modulo 5

# Types of OBUs.
AV1_SEQUENCE, AV1_FRAMES = 1, (3, 6)

HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
"""Those of H.264 whose parameters of a sequence tell of colours."""


def has_keyframe(codec: str, data: bytes) -> bool:
    """Return whether a packet, of a codec in video.CODECS, needs no picture of one before it."""
    return KEYFRAMES[codec](data)


def begins_stream(codec: str, data: bytes) -> bool:
    """Return whether decoding may begin with a packet: whether it has parameters, too."""
    if not has_keyframe(codec, data):
        return False
    parameters = ParameterSets(codec)
    parameters.learn(data)
    return codec not in PARAMETERS or bool(bytes(parameters))


def has_picture(codec: str, data: bytes) -> bool:
    """Return whether a packet has a slice, as far as its units tell: not parameters alone."""
    if codec not in PARAMETERS:
        return True
    shift, mask, _ = PARAMETERS[codec]
    types = [unit[0] >> shift & mask for unit in units(data)]
    return not types or any(type_ in PICTURE_UNITS[codec] for type_ in types)


def may_lead(data: bytes) -> bool:
    """Return whether a packet of H.264 may be shown before the keyframe that it comes behind."""
    for unit in units(data):
        if unit[0] & 0x1f in (SLICE, KEY_SLICE):
            bits = Bits(unit[1:])
            with suppress(ValueError):
                bits.number()
                return bits.number() % 5 == B_SLICE
    return False


def has_idr(data: bytes) -> bool:
    """Return whether a packet of H.264 has a keyframe behind which nothing is shown before it."""
    return any(unit[0] & 0x1f == KEY_SLICE for unit in units(data))


class ParameterSets:
    """
    The parameters of pictures that packets have told so far, the last ones of each kind and id.

    Some streams have them at their beginning alone, or in packets of their own. None are told of
    AV1 and VP9, each of whose keyframes has its own.
    """

    def __init__(self, codec: str):
        self._codec = codec
        self._units: dict[tuple[int, int], bytes] = {}

    def learn(self, data: bytes) -> None:
        """Take over those of a packet."""
        if self._codec not in PARAMETERS:
            return
        shift, mask, types = PARAMETERS[self._codec]
        for unit in units(data):
            type_ = unit[0] >> shift & mask
            if type_ not in types:
                continue
            with suppress(ValueError):  # the decoder tells what is wrong
                key = type_, _parameter_id(type_, unit)
                if self._units.get(key, unit) != unit:
                    # Those of pictures are read with those of their sequence.
                    self._units = {other: held for other, held in self._units.items()
                                   if other[0] <= type_}
                self._units[key] = unit

    def __bytes__(self) -> bytes:
        """Return them with start codes, those first that others refer to."""
        return b''.join(START_CODE + unit for _, unit in sorted(self._units.items()))


def _parameter_id(type_: int, unit: bytes) -> int:
    """Return the id of parameters: 7.3.2.1 and 7.3.2.2 of H.264, 7.3.2.1 to 7.3.3 of H.265."""
    if type_ == SEQUENCE:
        return Bits(unit[4:]).number()
    if type_ == PICTURE:
        return Bits(unit[1:]).number()
    bits = Bits(unit[2:])
    if type_ == HEVC_VIDEO:
        return bits.take(4)
    if type_ == HEVC_SEQUENCE:
        bits.take(4)
        layers = bits.take(3)
        bits.take(1 + 88 + 8)  # profile and level
        told = [(bits.take(1), bits.take(1)) for _ in range(8 if layers else 0)]
        for has_profile, has_level in told[:layers]:
            bits.take(88 * has_profile + 8 * has_level)
    return bits.number()


def units(data: bytes) -> Iterator[bytes]:
    """Yield the beginnings of a packet's units, of HEADER_BYTES at most, behind start codes."""
    at = data.find(START_CODE)
    while at >= 0:
        begin = at + len(START_CODE)
        at = data.find(START_CODE, begin)
        end = begin + HEADER_BYTES
        if unit := data[begin:end if at < 0 else min(at, end)]:
            yield unit


def _h264_keyframe(data: bytes) -> bool:
    for unit in units(data):
        type_ = unit[0] & 0x1f
        if type_ in (KEY_SLICE, SEQUENCE):
            return True
        if type_ == SLICE:
            return False
    return False


def _hevc_keyframe(data: bytes) -> bool:
    for unit in units(data):
        type_ = unit[0] >> 1 & 0x3f
        if type_ in HEVC_KEYS:
            return True
        if type_ in HEVC_SLICES:
            return False
    return False


def _av1_keyframe(data: bytes) -> bool:
    at = 0
    while at < len(data):
        head = data[at]
        type_, has_extension, has_size = head >> 3 & 0xf, head >> 2 & 1, head >> 1 & 1
        if type_ == AV1_SEQUENCE:
            return True
        if type_ in AV1_FRAMES or not has_size:
            return False
        at += 1 + has_extension
        size = shift = 0
        while at < len(data) and shift < 56:
            size |= (data[at] & 0x7f) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 0x80:
                break
        at += size
    return False


def _vp9_keyframe(data: bytes) -> bool:
    if not data or data[0] >> 6 != 0b10:
        return False
    has_reserved_bit = data[0] >> 4 & 0b11 == 0b11  # of profile 3
    shows_another, is_inter = (data[0] >> (3 - has_reserved_bit) & 1,
                               data[0] >> (2 - has_reserved_bit) & 1)
    return not shows_another and not is_inter


KEYFRAMES: dict[str, Callable[[bytes], bool]] = {
    'h264': _h264_keyframe, 'hevc': _hevc_keyframe, 'av1': _av1_keyframe, 'vp9': _vp9_keyframe}


class FrameNumbers:
    """
    Tells from H.264's own numbers whether a packet follows the one before it.

    FFmpeg's decoder says nothing of a frame that is lost, other than that of H.265. VP9 has no
    such numbers, and AV1 need not have them.
    """

    def __init__(self) -> None:
        self._sequences: dict[int, tuple[int, bool, bool]] = {}
        self._sequence_of: dict[int, int] = {}
        self._last: int | None = None

    def follows(self, data: bytes) -> bool:
        """Return whether no frame is missing between this packet and the last; True if unknown."""
        try:
            for unit in units(data):
                type_ = unit[0] & 0x1f
                if type_ == SEQUENCE:
                    self._learn_sequence(unit)
                elif type_ == PICTURE:
                    bits = Bits(unit[1:])
                    self._sequence_of[bits.number()] = bits.number()
                elif type_ in (SLICE, KEY_SLICE):
                    return self._slice_follows(unit)
        except (KeyError, ValueError):  # the decoder tells what is wrong
            pass
        return True

    def _slice_follows(self, unit: bytes) -> bool:
        bits = Bits(unit[1:])
        bits.number()
        bits.number()
        length, has_planes, may_have_gaps = self._sequences[self._sequence_of[bits.number()]]
        if has_planes:
            bits.take(2)
        number, last = bits.take(length), self._last
        if unit[0] >> 5 & 0b11:  # others may refer to it
            self._last = number
        return (unit[0] & 0x1f == KEY_SLICE or last is None or may_have_gaps
                or number in (last, (last + 1) % 2**length))

    def _learn_sequence(self, unit: bytes) -> None:
        """Note the parameters of a sequence: 7.3.2.1.1 of H.264, as far as the frames' numbers."""
        bits, has_planes = Bits(unit[4:]), False
        identity = bits.number()
        if unit[1] in HIGH_PROFILES:
            colours = bits.number()
            has_planes = colours == 3 and bool(bits.take(1))
            bits.number()
            bits.number()
            bits.take(1)
            if bits.take(1):
                for index in range(12 if colours == 3 else 8):
                    if bits.take(1):
                        bits.skip_scaling_list(16 if index < 6 else 64)
        length = bits.number() + 4
        order = bits.number()
        if order == 0:
            bits.number()
        elif order == 1:
            bits.take(1)
            bits.number()
            bits.number()
            for _ in range(min(bits.number(), 255)):
                bits.number()
        bits.number()
        if not 4 <= length <= 16 or identity > 31:
            raise ValueError('no parameters of a sequence')
        self._sequences[identity] = length, has_planes, bool(bits.take(1))


class Bits:
    """The bits of a unit without its head, one behind the other; ValueError behind the last."""

    def __init__(self, data: bytes):
        data = data.replace(b'\0\0\3', b'\0\0')  # a 3 keeps zeros from being a start code
        self._bits = int.from_bytes(data, 'big')
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise ValueError('behind the end')
        return self._bits >> self._left & (1 << count) - 1

    def number(self) -> int:
        """Return a number of Exp-Golomb code: n zeros, and n + 1 bits of it plus one."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_scaling_list(self, size: int) -> None:
        """Skip a list that says how coefficients are scaled: 7.3.2.1.1.1."""
        last = following = 8
        for _ in range(size):
            if following:
                code = self.number()
                following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            last = following or last
