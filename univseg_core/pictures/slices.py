"""Whether slices of a picture of H.264 are missing, which FFmpeg's decoder conceals silently."""

from contextlib import suppress

from univseg_core.pictures.bitstreams import Bits, KEY_SLICE, SEQUENCE, SLICE, units


class SliceStarts:
    """
    Tells from the macroblocks that slices begin with whether some of a picture are missing.

    The first slice begins with the first macroblock. Where keyframes and others had the same
    slices so far, an encoder is taken to cut all of a sequence's pictures alike; of others, only
    the first slice is missed.
    """

    def __init__(self) -> None:
        self._sequence = b''
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._starts: list[int] = []
        self._of_keyframes: set[bool] = set()
        self._vary = False

    def are_whole(self, data: bytes) -> bool:
        """Return whether no slice of a packet is known to be missing."""
        starts, is_key = [], False
        for unit in units(data):
            type_ = unit[0] & 0x1f
            if type_ == SEQUENCE and unit != self._sequence:
                self._sequence = unit
                self._begin_anew()
            elif type_ in (SLICE, KEY_SLICE):
                is_key |= type_ == KEY_SLICE
                with suppress(ValueError):  # the decoder tells what is wrong
                    starts.append(Bits(unit[1:]).number())
        if starts and starts[0]:
            return False
        if not starts or self._vary:
            return True
        self._starts = self._starts or starts
        if starts == self._starts:
            self._of_keyframes.add(is_key)
            return True
        if len(self._of_keyframes) == 2 and _is_part(starts, self._starts):
            return False
        self._vary = True
        return True


def _is_part(some: list[int], others: list[int]) -> bool:
    """Return whether some numbers stand among others in this order."""
    rest = iter(others)
    return all(each in rest for each in some)
