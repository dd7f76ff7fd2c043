"""Random changes of a node with several cameras, and what the node should be like after each."""

from collections.abc import Mapping
from dataclasses import dataclass
import math
import random
from typing import Any

from lifecycle_msgs.msg import Transition

CAMERAS = ('front', 'left', 'rear')
DOMAINS = ('outdoor', 'indoor')
AUTO = ('auto',)

BEGIN = {'active_domains': ['auto'], 'confidence_threshold': 0.0, 'inference_size': 0,
         'max_rate': 0.0, 'max_age': 0.0, 'traversable': [''], 'auto_frames': 5,
         'auto_switch': 0.7, 'auto_stay': 0.3}
"""The parameters with which a node begins."""

GOOD = {
    'active_domains': [['outdoor'], ['indoor'], ['outdoor', 'indoor'], ['indoor', 'outdoor'],
                       ['auto'], ['auto'], ['auto']],
    'confidence_threshold': [0.0, 0.36, 0.52], 'inference_size': [0, 32, 48],
    'max_rate': [0.0, 0.0, 12.5, 1000.0], 'max_age': [0.0, 3600.0],
}
"""Values that a camera's parameters may have, and the general ones."""

GOOD_GENERAL = {'traversable': [[''], ['road'], ['indoor/floor'], ['road', 'wall']],
                'auto_frames': [1, 2, 5]}

BAD = {
    'active_domains': [['cellar'], ['auto', 'outdoor'], ['indoor', 'indoor'], [''], 'outdoor'],
    'confidence_threshold': [-0.1, 1.5, math.nan, 1, 'high'], 'inference_size': [-1, 8193, 5.0],
    'max_rate': [-1.0, 1e9, 5, [1.0]], 'max_age': [math.inf, -0.5],
}

BAD_GENERAL = {
    'traversable': [['lava'], ['road', 'road'], ['', 'road'], ['cellar/road'], 'road'],
    'auto_frames': [0, 1001, 5.0], 'cameras': [['front']], 'model': ['another.univseg'],
    'roof.max_rate': [5.0], 'front.nothing': [1], 'front.traversable': [['road']],
    '.max_rate': [1.0], 'front.': [1.0], 'front.auto_switch': [0.9],
}

TRANSITIONS = {
    Transition.TRANSITION_CONFIGURE: ('unconfigured', 'inactive'),
    Transition.TRANSITION_ACTIVATE: ('inactive', 'active'),
    Transition.TRANSITION_DEACTIVATE: ('active', 'inactive'),
    Transition.TRANSITION_CLEANUP: ('inactive', 'unconfigured'),
}
"""From which state each leads to which."""


@dataclass(frozen=True)
class Settings:
    """What the masks of a camera are made by, while the node is active."""

    domains: tuple[str, ...]
    threshold: float
    size: int
    traversable: tuple[str, ...]


Snapshot = Mapping[str, Settings]
"""The settings of each camera at a time; of none while the node is not active."""


class Truth:
    """What a node's state and parameters should be, and who is pinned."""

    def __init__(self) -> None:
        self.state = 'active'
        self.values: dict[str, Any] = dict(BEGIN)
        self.pinned: dict[str, str] = {}

    def of(self, camera: str, name: str) -> Any:
        """Return a parameter that a camera follows."""
        return self.values.get(f'{camera}.{name}', self.values[name])

    def is_auto(self, camera: str) -> bool:
        return tuple(self.of(camera, 'active_domains')) == AUTO

    def snapshot(self) -> Snapshot:
        if self.state != 'active':
            return {}
        return {camera: Settings(tuple(self.of(camera, 'active_domains')),
                                 self.of(camera, 'confidence_threshold'),
                                 self.of(camera, 'inference_size'),
                                 tuple(self.values['traversable'])) for camera in CAMERAS}

    def set(self, values: Mapping[str, Any]) -> None:
        """Take new values, all of which are acceptable."""
        before = {camera: self.is_auto(camera) for camera in CAMERAS}
        self.values |= values
        for camera in CAMERAS:
            if self.is_auto(camera) != before[camera]:
                self.pinned.pop(camera, None)

    def change_state(self, transition: int) -> bool:
        """Take a transition, if there is one from the present state."""
        begin, end = TRANSITIONS[transition]
        if self.state != begin:
            return False
        self.state = end
        if end == 'unconfigured':
            self.pinned.clear()
        return True

    def random_values(self, chance: random.Random) -> tuple[dict[str, Any], bool]:
        """Return values of parameters, and whether they are acceptable."""
        if chance.random() < 0.2:
            return self._random_thresholds(chance)
        good = chance.random() < 0.7
        of_cameras, general = (GOOD, GOOD_GENERAL) if good else (BAD, BAD_GENERAL)
        name = chance.choice([*of_cameras, *of_cameras, *general])
        if not good and self.state == 'unconfigured' and name in (
                'active_domains', 'traversable', 'model'):
            name = 'max_rate'  # those are judged when there is a model
        value = chance.choice({**of_cameras, **general}[name])
        if name in of_cameras and chance.random() < 0.8:
            name = f'{chance.choice(CAMERAS)}.{name}'
        return {name: value}, good

    def _random_thresholds(self, chance: random.Random) -> tuple[dict[str, float], bool]:
        values = {'auto_switch': chance.choice([0.5, 0.6, 0.7, 0.7, 0.9, 0.4]),
                  'auto_stay': chance.choice([0.0, 0.3, 0.55, 0.8, 1.0, -0.1])}
        if chance.random() < 0.5:
            del values[chance.choice([*values])]
        new = {**self.values, **values}
        return values, (0.5 <= new['auto_switch'] <= 1
                        and 0 <= new['auto_stay'] <= new['auto_switch'])

    def random_transition(self, chance: random.Random) -> int:
        """Return one of TRANSITIONS: mostly one that leads on, to active where that is away."""
        if chance.random() < 0.15:
            return chance.choice([*TRANSITIONS])
        if self.state == 'inactive':
            return chance.choice([Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_ACTIVATE,
                                  Transition.TRANSITION_CLEANUP])
        return (Transition.TRANSITION_CONFIGURE if self.state == 'unconfigured'
                else Transition.TRANSITION_DEACTIVATE)
