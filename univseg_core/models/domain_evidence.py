"""Where an image seems to be from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recognition:
    """Where an image seems to be from."""

    probabilities: dict[str, float]
    unfamiliarity: float
