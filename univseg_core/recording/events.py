"""Triggers of a flight recorder, and the event that they make: what a bag is written for."""

from dataclasses import dataclass
import json

from univseg_core.errors import shortened

MOST_TRIGGERS = 100
"""Triggers of an event that are told one by one; all are counted."""

LONGEST_REASON = 300
"""Characters of a trigger's reason, which may be of anybody's making."""


@dataclass(frozen=True)
class Trigger:
    """When something happened, in nanoseconds of the messages' clock, and what, in words."""

    time: int
    why: str


class Event:
    """What a bag is written for: the first trigger, and those that came while it was written."""

    def __init__(self) -> None:
        self.count = 0
        """How many triggers there were."""
        self.triggers: list[Trigger] = []
        """The first MOST_TRIGGERS of them."""

    def add(self, trigger: Trigger) -> None:
        """Take note of one more trigger."""
        self.count += 1
        if len(self.triggers) < MOST_TRIGGERS:
            self.triggers.append(trigger)

    def description(self) -> dict[str, str]:
        """Return what the event's bag says of it: `triggers` as JSON, and `trigger_count`."""
        return {'triggers': json.dumps([{'time': each.time, 'why': each.why}
                                        for each in self.triggers]),
                'trigger_count': str(self.count)}


def in_words(why: str) -> str:
    """Return a reason that somebody gave, in one line that is not too long."""
    return ''.join(character if character.isprintable() else '?'
                   for character in shortened(why, LONGEST_REASON))
