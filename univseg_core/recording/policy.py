"""What a recording policy is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
from univseg_core.bags.mcap import Message
from univseg_core.bags.reading import deserialise
from univseg_core.pictures.image_messages import CompressedImage, Image
from univseg_core.recording.events import Event, Trigger
from univseg_core.recording.serialized_image import SerializedImage

KEPT = 'kept'

Verdict = tuple[SerializedImage, str]
"""A frame, and KEPT or why it is not, one of its policy's outcomes."""


class Policy(ABC):
    """Decides which images are kept; what a policy has no use for, it leaves as it is here."""

    held_bytes = 0
    """Bytes of the images of which nothing is decided yet."""

    event: Event | None = None
    """What is being written for, where that has an end; each event has a bag of its own."""

    @property
    def spare_bytes(self) -> int:
        """Return how many bytes more may wait for the policy than the queue has room for."""
        return 0

    @abstractmethod
    def judge(self, frame: SerializedImage) -> Iterator[Verdict]:
        """Yield what is decided by a new image: often of itself, sometimes of earlier ones."""

    def learn(self, evidence: SerializedImage) -> Iterator[Verdict]:
        """Yield what is decided by what the model says: a confidence, or a recognition."""
        yield from ()

    def trigger(self, trigger: Trigger) -> Iterator[Verdict]:
        """Yield what is decided because of a trigger."""
        yield from ()

    def overdue(self, at_once: bool = False) -> Iterator[Verdict]:
        """Yield what is decided because time has passed; `at_once`, of all that is left."""
        yield from ()

    def lost(self, frame: SerializedImage) -> None:  # noqa: B027 (most need not know)
        """Take note that an image that was to be kept could not be."""

    def facts(self) -> Mapping[str, int | float | str]:
        """Return what there is to tell of the policy's state; any thread may ask."""
        return {}


def deserialised(frame: SerializedImage) -> Image | CompressedImage:
    """Return the message of a frame; BagError where its bytes are none."""
    return deserialise(Message(frame.topic.name, frame.topic.type, frame.time, frame.data))


def mean_confidence(frame: SerializedImage) -> float:
    """
    Return the mean, 0..1, of a picture of confidences in mono8.

    Raises BagError where its bytes are no image, and ValueError where it has no pixels.
    """
    data = deserialised(frame).data
    if not len(data):
        raise ValueError('an image without pixels')
    return float(np.mean(data)) / 255
