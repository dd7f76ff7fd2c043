"""What a person's label of a frame costs: so many seconds a frame, and more by its outlines."""

from dataclasses import dataclass

import numpy as np

ALONG_CELLS = np.pi / 4
"""A line's length over its length along the edges of cells, the mean over all directions."""


@dataclass(frozen=True)
class LabelCost:
    """
    The seconds that a label takes: `per_frame`, and `per_diagonal` for its outlines.

    The latter is for outlines as long, in all, as the frame's diagonal.
    """

    per_frame: float = 60.0
    per_diagonal: float = 180.0

    def minutes(self, outline: float) -> float:
        """Return the minutes that a label takes whose outlines are so many diagonals long."""
        return (self.per_frame + self.per_diagonal * outline) / 60


USUAL_COST = LabelCost()


def outline_length(classes: np.ndarray) -> float:
    """
    Return the length of the outlines between the classes (h, w) of cells, in diagonals.

    It is the edges between neighbours of different classes, times π/4: edges follow rows and
    columns, and are 4/π times as long, on average, as the line that they follow.
    """
    edges = (np.count_nonzero(classes[1:] != classes[:-1])
             + np.count_nonzero(classes[:, 1:] != classes[:, :-1]))
    return float(ALONG_CELLS * edges / np.hypot(*classes.shape))
