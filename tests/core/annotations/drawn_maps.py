"""A label map with all that formats have trouble with."""

import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX

DOMAIN = Domain.create('outdoor', ['road & "kerb"', 'tree', 'car', 'sky'],
                       [(128, 64, 128), (0, 0, 0), (0, 0, 142), (70, 130, 180)])


def drawn_map(height: int = 192, width: int = 256) -> np.ndarray:
    """Return classes (H, W) uint8: holes in holes, a line, pixels at a corner, specks, void."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(columns - 0.4 * width, rows - 0.5 * height)
    classes = np.full((height, width), 3, np.uint8)
    classes[rows > height // 2 + columns // 6] = 0
    for radius, index in ((0.35, 1), (0.27, 0), (0.19, IGNORE_INDEX), (0.1, 1)):
        classes[distance < radius * height] = index
    classes[5:40, width - 8] = 2
    classes[3, 3] = classes[4, 4] = classes[10, -50] = 2
    classes[-6:, -6:] = IGNORE_INDEX
    classes[0, 0] = 1
    return classes
