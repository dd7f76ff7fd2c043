"""
Masks as FiftyOne imports them: an ImageSegmentationDirectory, and the names of its indices.

FiftyOne draws nothing where a mask is 0, so that the first class is 1. Its own library would need
a database running; a PNG for each frame needs none.
"""

import json
from pathlib import Path

import numpy as np
from univseg_core.annotations.regions import AnnotationError
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.files import write_text
from univseg_core.pictures.images import write_png


class FiftyOneFolder:
    """Writes labels/ with grey PNGs, 0 void and 1 the first class, and mask_targets.json."""

    def __init__(self, folder: Path, domain: Domain):
        if len(domain.classes) == IGNORE_INDEX:
            raise AnnotationError(f'domain {domain.name}: masks of FiftyOne that come back hold '
                                  f'{IGNORE_INDEX - 1} classes at most, got {IGNORE_INDEX}')
        self.folder, self.domain = folder, domain

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's mask (H, W) uint8."""
        # 255 + 1 is 0.
        write_png(self.folder / 'labels' / f'{frame.stem}.png', mask + np.uint8(1))

    def finish(self) -> None:
        """Write the names of the indices."""
        targets = {str(index): name for index, name in enumerate(self.domain.classes, 1)}
        write_text(self.folder / 'mask_targets.json',
                   json.dumps(targets, ensure_ascii=False, indent=2) + '\n')
