"""Which of a domain's classes a robot may drive on, by the names that a parameter gives."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from univseg_core.domains import Domain
from univseg_core.errors import did_you_mean

NO_CLASS = ['']
"""The value of `traversable` that names no class."""


def traversable_classes(names: Sequence[str], domain: Domain) -> list[int]:
    """Return the indices of a domain's classes that are named as CLASS or DOMAIN/CLASS."""
    return [index for index, name in enumerate(domain.classes)
            if name in names or f'{domain.name}/{name}' in names]


def traversable_mask(mask: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Return 255 where a mask (H, W) uint8 has one of some classes, and 0 elsewhere."""
    table = np.zeros(256, np.uint8)
    table[list(classes)] = 255
    return cv2.LUT(mask, table)


def traversable_objection(names: Sequence[str], domains: Mapping[str, Domain] | None) -> str:
    """
    Say why `traversable` cannot take these names; an empty text means that it can.

    `domains` are those of the loaded model, None while no model is loaded.
    """
    if list(names) in ([], NO_CLASS):
        return ''
    if '' in names:
        return f"traversable: expected names of classes, or [''] for none; got {list(names)}"
    if len(set(names)) != len(names):
        return f'traversable: a class is named twice in {list(names)}'
    if domains is not None:
        for name in names:
            if not any(traversable_classes([name], domain) for domain in domains.values()):
                return f'traversable: {_unknown(name, domains)}'
    return ''


def _unknown(name: str, domains: Mapping[str, Domain]) -> str:
    place, _, class_ = name.partition('/')
    if class_ and place in domains:
        classes = domains[place].classes
        return (f'{place} has no class {class_!r}{did_you_mean(class_, classes)}; it has '
                f'{", ".join(classes)}')
    if class_:
        return (f'{name!r} is no class of this model, which has no domain {place!r}'
                f'{did_you_mean(place, domains)}; it has {", ".join(domains)}')
    valid = '; '.join(f'{domain.name} has {", ".join(domain.classes)}'
                      for domain in domains.values())
    near = did_you_mean(name, [each for domain in domains.values() for each in domain.classes])
    return f'no domain of this model has a class {name!r}{near}; {valid}'
