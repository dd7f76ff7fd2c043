"""What a recorded topic is, and what the files of a bag hold of it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from univseg_core.bags.distributions import NEWEST, Qos
from univseg_core.errors import UnivsegError


class RecordingError(UnivsegError):
    """What keeps a recorder from recording at all."""


@dataclass(frozen=True)
class Topic:
    """A topic, its type, and the QoS profiles that its publishers offer."""

    name: str
    type: str
    qos: tuple[Qos, ...] = ()

    def type_hash(self) -> str:
        """Return the hash of the topic's type (REP 2011)."""
        return definition_of(self.type)[1]


@dataclass
class Contents:
    """
    What a file of a bag holds: its topics, their messages, and their times in nanoseconds.

    It is written as rosbag2 of a ROS 2 `distribution` has it. `description` is what its bag says
    of itself.
    """

    distribution: str = NEWEST
    topics: dict[str, Topic] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    begin: int | None = None
    end: int | None = None
    description: dict[str, str] = field(default_factory=dict)

    def add(self, topic: str, times: Iterable[int]) -> None:
        """Count messages of a topic."""
        times = list(times)
        self.counts[topic] += len(times)
        self.begin = min(times if self.begin is None else [self.begin, *times])
        self.end = max(times if self.end is None else [self.end, *times])


@cache
def definition_of(type_: str) -> tuple[str, str]:
    """
    Return the definition of a message type in ROS's own language, and its hash (REP 2011).

    Raises RecordingError where rosbags, which knows them, is not installed.
    """
    try:
        from rosbags.typesys import get_typestore, Stores
    except ImportError as error:
        raise RecordingError('recording needs rosbags (pip install rosbags)') from error
    store = get_typestore(Stores.ROS2_JAZZY)
    return store.generate_msgdef(type_, ros_version=2)[0], store.hash_rihs01(type_)
