"""Regions that annotation tools give back, of the frames that they are in."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from univseg_core.annotations.no_class import says_unpainted
from univseg_core.annotations.painting import painted
from univseg_core.annotations.problems import quoted
from univseg_core.annotations.regions import AnnotatedImage, AnnotationError
from univseg_core.domains import IGNORE_INDEX
from univseg_core.labelling.class_names import ClassNames
from univseg_core.labelling.frame_names import FrameNames


@dataclass(frozen=True)
class ReturnedRegions:
    """
    The regions of a frame, see `Returned`.

    `index_of` has the class of each label, `objects` how many there are of each class; `thin` gets
    those without a pixel when it is read.
    """

    frame: Path
    image: AnnotatedImage
    index_of: Mapping[str, int]
    objects: Mapping[int, int]
    background: int = IGNORE_INDEX
    thin: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        """Return the file that has the regions, and what it calls the image."""
        return f'{self.image.source}: {quoted(self.image.image, 300)}'

    @property
    def paths(self) -> Collection[Path]:
        """Return the file that has the regions."""
        return (self.image.source,)

    @property
    def is_labelled(self) -> bool:
        """Return whether there is any region."""
        return bool(self.image.regions)

    def read(self, height: int, width: int) -> np.ndarray:
        """Return the classes (height, width) uint8 of its pixels; see `Returned`."""
        return painted(self.image, height, width, self.index_of, self.background, self.thin)


def regions_by_frame(images: Iterable[AnnotatedImage], frames: FrameNames, names: ClassNames,
                     background: int = IGNORE_INDEX) -> Iterator[ReturnedRegions | str]:
    """
    Yield the regions of each image's frame, or a sentence of what is wrong.

    What no region covers is of class `background`, and so is what is called so and is no class.
    An image without any region counts as not annotated: it need not be a frame's. An error in
    reading is a problem as others are: what comes behind it is told, too, as far as the reader
    goes on.
    """
    reading = iter(images)
    while True:
        try:
            image = next(reading)
        except StopIteration:
            break
        except AnnotationError as error:
            yield str(error)
            continue
        frame = frames.find((image.image, *image.also))
        if isinstance(frame, str) and not image.regions:
            continue
        index_of: dict[str, int] = {}
        objects: Counter[int] = Counter()
        for region in image.regions:
            label = region.label
            if label in image.void and not names.has(label, image.void):
                index_of[label] = background if says_unpainted(label) else IGNORE_INDEX
                names.dropped[label] += index_of[label] == IGNORE_INDEX
                continue
            if (index := names.index(label)) is None:
                names.not_known(label, f'{image.source}: {quoted(image.image, 300)}', region.what)
                index = IGNORE_INDEX
            index_of[label] = index
            objects[index] += 1
        if isinstance(frame, str):
            yield f'{image.source}: {quoted(image.image, 300)} ({image.regions[0].what}): {frame}'
        else:
            yield ReturnedRegions(frame, image, index_of, objects, background)
    yield from names.problems()
