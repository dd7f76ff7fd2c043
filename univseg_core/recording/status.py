"""What a recorder tells of itself."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Status:
    """
    What a recorder tells of itself: counts of images by topic and outcome, sizes in bytes.

    `facts` are the policy's own.
    """

    counts: dict[str, Counter[str]]
    paused: bool
    trouble: str
    bag: str
    file: str
    bag_bytes: int
    written_bytes: int
    queued_bytes: int
    free_bytes: int
    dropped_files: int
    facts: Mapping[str, int | float | str] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Return how many images have come to an outcome."""
        return sum(counts.total() for counts in self.counts.values())

    def count(self, outcome: str) -> int:
        """Return how many images of all topics came to an outcome."""
        return sum(counts[outcome] for counts in self.counts.values())
