"""The normalisation of images."""

from dataclasses import dataclass
import math


@dataclass(frozen=True)
class Normalisation:
    """
    (value / 255 − mean) / std, for red, green and blue of values 0..255.

    Raises ValueError for anything but three numbers each, a mean of 0..1 and a positive deviation.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, values, lowest in (('mean', self.mean, 0.0), ('std', self.std, 1e-3)):
            if len(values) != 3 or not all(
                    isinstance(v, float | int) and math.isfinite(v) and lowest <= v <= 1
                    for v in values):
                raise ValueError(f'normalisation: {name}: expected three numbers of {lowest:g} '
                                 f'to 1, got {values}')

    def to_dict(self) -> dict:
        """Return it as plain JSON values."""
        return {'mean': list(self.mean), 'std': list(self.std)}

    @classmethod
    def from_dict(cls, values: dict) -> 'Normalisation':
        """Return it from what to_dict gives; KeyError, TypeError or ValueError for others."""
        return cls(tuple(values['mean']), tuple(values['std']))


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
