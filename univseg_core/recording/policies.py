"""
Which images a recorder keeps.

Each entry of POLICIES is all that there is of a policy: what it keeps, its parameters, why it
does not keep an image, and how it is made.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from univseg_core.bags.reading import BagError
from univseg_core.pictures.image_messages import MessageError
from univseg_core.pictures.images import ImageError
from univseg_core.pictures.likeness import dhash, small_grey
from univseg_core.recording.flight import Flight, MEMORY_FULL, PASSED
from univseg_core.recording.judged import FAMILIAR, SURE, Uncertain, Unfamiliar, UNJUDGED
from univseg_core.recording.policy import deserialised, KEPT, Policy, Verdict
from univseg_core.recording.serialized_image import SerializedImage

TOO_SOON, SIMILAR = 'rate', 'similar'

CONFIDENCE, RECOGNITION = 'confidence', 'recognition'
"""What a segmentation node may say of an image, and publishes under that name."""


class KeepAll(Policy):
    """Keeps every image."""

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield the image, kept."""
        yield frame, KEPT


class RateLimit(Policy):
    """
    Keeps at most `rate` images a second of each topic, by their stamps.

    Images without a stamp count by the time at which they came. A clock that was set back begins
    anew.
    """

    def __init__(self, rate: float):
        self._period = 1e9 / rate
        self._turns: dict[str, float] = {}

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield the image, kept if it is its topic's turn."""
        stamp = _stamp(frame)
        turn = self._turns.get(frame.topic.name, stamp)
        late = stamp - turn
        # A stamp may come a little before it is due: cameras are not exact.
        early = self._period / 20
        if -2 * self._period < late < -early:
            yield frame, TOO_SOON
            return
        # When it was due rather than now, or the rate would not be kept on average at any
        # camera's rate; but a pause gives no credit.
        begin = turn if -early <= late < self._period else stamp
        self._turns[frame.topic.name] = begin + self._period
        yield frame, KEPT


class Novel(Policy):
    """
    Keeps images whose dHash differs in more than `bits` of 64 from that of the last one kept.

    What cannot be compared (a damaged image, an encoding that is not read) is kept.
    """

    def __init__(self, bits: int):
        self._bits = bits
        self._hashes: dict[str, int] = {}

    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield the image, kept if it is new."""
        try:
            new = dhash(small_grey(deserialised(frame)))
        except (BagError, MessageError, ImageError):
            yield frame, KEPT
            return
        last = self._hashes.get(frame.topic.name)
        if last is not None and (new ^ last).bit_count() <= self._bits:
            yield frame, SIMILAR
            return
        self._hashes[frame.topic.name] = new
        yield frame, KEPT

    def lost(self, frame: SerializedImage) -> None:
        """Let the topic's next image be new."""
        self._hashes.pop(frame.topic.name, None)


def _stamp(frame: SerializedImage) -> int:
    try:
        return frame.header()[0] or frame.time
    except ValueError:
        return frame.time


@dataclass(frozen=True)
class PolicyParameter:
    """A number that shapes a policy: its default, what it means, and its lowest and highest."""

    default: int | float
    description: str
    bounds: tuple[int, int] | tuple[float, float]


@dataclass(frozen=True)
class PolicyEntry:
    """
    What there is to know of a policy.

    `keeps` says which images, in a few words. `build` makes it of its `parameters`' values and of
    the bytes of images that it may hold. `outcomes` are why it does not keep an image. `learn`
    tells it what it `needs`, CONFIDENCE or RECOGNITION; one that is `triggered` writes when
    `trigger` tells it. Parameters and outcomes of several policies are the same for all of them.
    """

    keeps: str
    build: Callable[[Mapping[str, Any], int], Policy]
    parameters: Mapping[str, PolicyParameter] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    needs: str = ''
    triggered: bool = False


_RATE = {'rate': PolicyParameter(1.0, 'images a second of each topic, at most.', (0.001, 1000.0))}
_TOO_SOON = {TOO_SOON: 'too soon after the last one that was kept'}
_PATIENCE = {'patience': PolicyParameter(
    2.0, 'seconds that an image waits for what the model says of it.', (0.1, 60.0))}
_UNJUDGED = {UNJUDGED: 'the model did not judge it'}

POLICIES = {
    'all': PolicyEntry('all', lambda values, most_bytes: KeepAll()),
    'rate': PolicyEntry(
        'some a second', lambda values, most_bytes: RateLimit(values['rate']), _RATE, _TOO_SOON),
    'novel': PolicyEntry(
        'those that differ from the last one kept',
        lambda values, most_bytes: Novel(values['novel_bits']),
        {'novel_bits': PolicyParameter(
            4, 'of the 64 bits of the dHash, an image must differ in more than so many from the '
            'last one kept.', (0, 63))},
        {SIMILAR: 'too much like the last one that was kept'}),
    'uncertain': PolicyEntry(
        'those of which the model is unsure',
        lambda values, most_bytes: Uncertain(values['uncertain_below'], values['patience'],
                                             most_bytes),
        {'uncertain_below': PolicyParameter(
            0.8, 'mean confidence below which an image is kept.', (0.0, 1.0)), **_PATIENCE},
        {SURE: 'the model was sure of it', **_UNJUDGED},
        needs=CONFIDENCE),
    'unfamiliar': PolicyEntry(
        'those unlike all that the model was trained on',
        lambda values, most_bytes: Unfamiliar(
            values['unfamiliarity'], RateLimit(values['rate']), values['patience'], most_bytes),
        {'unfamiliarity': PolicyParameter(
            1.0, "unfamiliarity from which on an image is kept; 1 % of the model's own training "
            'images are above 1.', (0.0, 1000.0)), **_RATE, **_PATIENCE},
        {FAMILIAR: 'it was like what the model was trained on', **_TOO_SOON, **_UNJUDGED},
        needs=RECOGNITION),
    'flight': PolicyEntry(
        'those around a trigger, and no others',
        lambda values, most_bytes: Flight(
            values['flight_before'], values['flight_after'], values['flight_memory'] * 10**6,
            values['flight_below']),
        {'flight_before': PolicyParameter(
            10.0, 'seconds before a trigger, whose images are in memory until then.',
            (0.0, 3600.0)),
         'flight_after': PolicyParameter(
             5.0, 'seconds after a trigger.', (0.0, 3600.0)),
         'flight_memory': PolicyParameter(
             500, 'megabytes of images in memory, at most; the oldest give way.', (1, 1_000_000)),
         'flight_below': PolicyParameter(
             0.5, 'mean of a confidence below which there is a trigger, where flight_on has '
             'confidence.', (0.0, 1.0))},
        {PASSED: 'no trigger came while it was in memory',
         MEMORY_FULL: 'flight_memory had no room for it any more'},
        triggered=True),
}
"""The policies by name."""
