"""The frames of a camera on their way: their settings, where they go, what became of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from univseg_core.inference.domain_decision import DecisionRule
from univseg_core.pictures.picture_files import orientation_of
from univseg_ros.outputs import DomainOutputs
from univseg_ros.place import AUTO, Place
from univseg_ros.statistics import FrameStatistics


@dataclass(frozen=True)
class FrameSettings:
    """What may change between two frames of a camera; 0 stands for no limit, or its default."""

    active_domains: list[str]
    confidence_threshold: float
    max_age: float
    max_rate: float
    inference_size: int = 0
    auto_frames: int = DecisionRule.frames
    auto_switch: float = DecisionRule.switch
    auto_stay: float = DecisionRule.stay
    auto_unfamiliar: float = DecisionRule.unfamiliar
    traversable: Sequence[str] = ()

    @property
    def is_auto(self) -> bool:
        """Return whether images tell which domain is active."""
        return list(self.active_domains) == AUTO

    @property
    def rule(self) -> DecisionRule:
        """Return by which rule they tell."""
        return DecisionRule(self.auto_frames, self.auto_switch, self.auto_stay,
                            self.auto_unfamiliar)


class CameraStream:
    """
    The frames of a camera on their way: their settings, where they go, what became of them.

    `settings` is asked when a frame's processing starts, and all its outputs follow from what it
    says then; only max_rate is asked when it comes. `place` decides on the domain where the
    settings leave that to the images.
    """

    def __init__(self, outputs: Mapping[str, DomainOutputs],
                 settings: Callable[[], FrameSettings], place: Place | None = None):
        self.outputs = outputs
        self.settings = settings
        self.place = place
        self.statistics = FrameStatistics()
        self.grey = ''
        """Why the last image is grey, though its encoding has colours; empty where it is not."""
        self.lowered: tuple[int | None, int] | None = None
        """The inference size that memory did not suffice for, and the one in its place."""
        self._last_turn = -np.inf
        self._orientation_seen = False

    def has_turn(self, now: float) -> bool:
        """Take note of a frame that comes now; say whether max_rate allows it."""
        max_rate = self.settings().max_rate
        if max_rate:
            turn = self._last_turn + 1 / max_rate
            if now < turn:
                return False
            # When it was due rather than now, or max_rate would not be kept on average at any
            # camera's rate; but a pause gives at most one frame's credit.
            self._last_turn = max(turn, now - 1 / max_rate)
        return True

    def size(self, asked: int | None) -> int | None:
        """Return the inference size that there is memory for, where `asked` may be too large."""
        return self.lowered[1] if self.lowered and self.lowered[0] == asked else asked

    def unapplied_orientation(self, message: Image | CompressedImage) -> int:
        """Return the orientation of the first picture file that comes, if it is to be told."""
        if self._orientation_seen or isinstance(message, Image):
            return 0
        self._orientation_seen = True
        orientation = orientation_of(bytes(message.data))
        return orientation if orientation > 1 else 0
