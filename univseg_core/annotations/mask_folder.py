"""Index PNGs and palette PNGs, with the lists that CVAT has beside its masks."""

from pathlib import Path

import numpy as np
from univseg_core.annotations.no_class import BACKGROUND
from univseg_core.annotations.regions import AnnotationError
from univseg_core.domains import Domain, void_colour
from univseg_core.files import write_text
from univseg_core.pictures.images import write_png
from univseg_core.pictures.palette_png import write_palette_png


def full_palette(domain: Domain) -> list[tuple[int, int, int]]:
    """Return the colours of all 256 indices: the classes', and for all others that of void."""
    rest = 256 - len(domain.palette)
    return [*domain.palette, *[void_colour(domain.palette)] * rest]


def labelmap(domain: Domain) -> str:
    """
    Return a domain's labelmap.txt: lines name:red,green,blue::, that of void first.

    It is what CVAT reads and writes beside "Segmentation mask 1.1". Raises AnnotationError for a
    class name that such a line cannot hold.
    """
    for name in domain.classes:
        if ':' in name or name == BACKGROUND:
            raise AnnotationError(f'domain {domain.name}: a labelmap.txt cannot hold the class '
                                  f'name {name!r}')
    entries = [(BACKGROUND, void_colour(domain.palette)),
               *zip(domain.classes, domain.palette, strict=True)]
    return ''.join(f'{name}:{",".join(map(str, colour))}::\n' for name, colour in entries)


class MaskFolder:
    """
    Writes masks as PNGs, laid out as CVAT imports "Segmentation mask 1.1".

    labels/ has them as index PNGs (255: void), SegmentationClass/ the same as PNGs with a
    palette; classes.txt, labelmap.txt and ImageSets/Segmentation/default.txt name classes,
    colours and frames.

    In SegmentationClass/, an index is that of a line of labelmap.txt, where void comes first.
    Datumaro, with which CVAT reads, takes colours where it decodes by OpenCV, and indices where by
    Pillow: so both say the same. Of RGB it would know nothing by Pillow, which it takes for BGR.
    """

    def __init__(self, folder: Path, domain: Domain):
        self.folder, self.domain = folder, domain
        self._names: list[str] = []
        *colours, void = full_palette(domain)
        self._palette = [void, *colours]
        self._labelmap = labelmap(domain)

    def add(self, frame: Path, mask: np.ndarray, confidence: float) -> None:
        """Add a frame's mask (H, W) uint8."""
        write_png(self.folder / 'labels' / f'{frame.stem}.png', mask)
        write_palette_png(self.folder / 'SegmentationClass' / f'{frame.stem}.png',
                          mask + np.uint8(1), self._palette)  # 255 becomes 0
        self._names.append(frame.stem)

    def finish(self) -> None:
        """Write the lists of classes, colours and frames."""
        lists = {'classes.txt': self.domain.classes, 'labelmap.txt': [self._labelmap.rstrip()],
                 'ImageSets/Segmentation/default.txt': self._names}
        for name, lines in lists.items():
            write_text(self.folder / name, ''.join(f'{line}\n' for line in lines))
