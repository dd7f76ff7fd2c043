"""A domain: a place with its own label space."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
import re
from typing import cast

import numpy as np
from univseg_core.domains.palettes import distinct_colours
from univseg_core.errors import UnivsegError

IGNORE_INDEX = 255
"""Index of pixels without a class: void in a target, padding, unknown in a published mask."""

VOID_COLOURS = ((0, 0, 0), (255, 255, 255), (255, 0, 255), (128, 128, 128))
"""Colours for pixels without a class: the first that no class has is taken."""

NAME_PATTERN = re.compile(r'[a-z][a-z0-9_]*')


class DomainError(UnivsegError):
    """A domain whose name, classes or palette cannot be used."""


@dataclass(frozen=True)
class Domain:
    """
    A name, its ordered class names, and a colour for each class.

    `classes[i]` is the name of class index i; `palette[i]` its (red, green, blue), each 0..255.
    The name serves as a ROS topic segment and matches [a-z][a-z0-9_]*.

    Raises DomainError where one of them is not so.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME_PATTERN.fullmatch(self.name):
            raise DomainError(
                f'domain name {self.name!r}: expected lower-case letters, digits and _, '
                'starting with a letter')
        if not 1 <= len(self.classes) <= IGNORE_INDEX:
            raise DomainError(
                f'domain {self.name}: expected 1 to {IGNORE_INDEX} classes, '
                f'got {len(self.classes)}')
        if not all(isinstance(name, str) and name for name in self.classes):
            raise DomainError(f'domain {self.name}: expected class names, got {self.classes}')
        repeated = {c for c in self.classes if self.classes.count(c) > 1}
        if repeated:
            raise DomainError(f'domain {self.name}: class names repeat: {sorted(repeated)}')
        if len(self.palette) != len(self.classes):
            raise DomainError(
                f'domain {self.name}: {len(self.classes)} classes but '
                f'{len(self.palette)} palette colours')
        for colour in self.palette:
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise DomainError(
                    f'domain {self.name}: palette colour {colour!r}: expected three '
                    'integers 0..255')

    @classmethod
    def create(cls, name: str, classes: Sequence[str],
               palette: Sequence[Sequence[int]] | None = None) -> 'Domain':
        """
        Return a domain; without a palette, one of well-separated colours is made.

        They follow from its name too, so that two domains do not have the same ones.
        """
        classes = tuple(classes)
        if palette is None:
            palette = distinct_colours(len(classes), str(name))
        colours = tuple(tuple(int(v) for v in colour) for colour in palette)
        # Of another length than three, __post_init__ refuses them.
        return cls(name, classes, cast(tuple[tuple[int, int, int], ...], colours))

    def colourise(self, mask: np.ndarray) -> np.ndarray:
        """Return the (H, W, 3) uint8 RGB picture of a mask (H, W) uint8; unknown is black."""
        table = np.zeros((256, 3), np.uint8)
        table[:len(self.palette)] = self.palette
        return table[mask]

    def to_dict(self) -> dict:
        """Return the domain as plain JSON values: name, classes, palette."""
        return {'name': self.name, 'classes': list(self.classes),
                'palette': [list(colour) for colour in self.palette]}

    @classmethod
    def from_dict(cls, values: dict) -> 'Domain':
        """Return the domain that `to_dict` wrote."""
        return cls.create(values['name'], values['classes'], values['palette'])


def void_colour(palette: Collection[tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return the colour of pixels without a class: black, unless a class of a palette has it."""
    others = ((value, value, value) for value in range(256))
    return next(colour for colour in (*VOID_COLOURS, *others) if colour not in palette)
