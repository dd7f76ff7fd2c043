"""What one image and its label map are like, and what many of them raise as questions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
import hashlib

import numpy as np
from univseg_core.batches.overlaps import Look, look_of
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX, void_colour
from univseg_core.errors import first_few, UnivsegError
from univseg_core.pictures.palette_png import decode_palette_png
from univseg_core.pictures.picture_files import file_bytes, read_header


@dataclass(frozen=True)
class Seen:
    """
    A sample that could be read.

    `size` is 'WIDTH×HEIGHT' as it is seen, `counts` (256,) how often its label map has each
    value (None without one), `palette` the label map's (n, 3), where it has one; `orientation`
    and `is_deep` are those of the image file's header.
    """

    sample: Sample
    size: str
    counts: np.ndarray | None
    palette: np.ndarray | None
    orientation: int
    is_deep: bool
    look: Look


def inspect(sample: Sample, domain: Domain) -> Seen | str:
    """Return what a sample is like, or what is wrong with it."""
    try:
        data = file_bytes(sample.image)
        image, label = read_sample(sample, domain)
        header = read_header(data)
        counts, palette = None, None
        if sample.label is not None:
            counts = np.bincount(label.ravel(), minlength=256)
            with_palette = decode_palette_png(file_bytes(sample.label))
            palette = with_palette and with_palette[1]
    except UnivsegError as error:
        return str(error)
    return Seen(sample, f'{image.shape[1]}×{image.shape[0]}', counts, palette, header.orientation,
                header.is_deep, look_of(sample, hashlib.sha256(data).digest(), image))


def remarks(part: str, seen: Sequence[Seen], domain: Domain) -> Iterator[str]:
    """Yield a sentence for each thing in a part that is no fault, but worth a look."""
    def told(holds: Callable[[Seen], object], text: str) -> Iterator[str]:
        files = [each for each in seen if holds(each)]
        if files:
            names = first_few([each.sample.name for each in files])
            yield f'domains.{domain.name}, {part}: {len(files)} of {len(seen)} {text} ({names})'

    yield from told(lambda each: each.orientation > 1,
                    'images are turned upright by the orientation in their EXIF data; label maps '
                    'are to fit the upright picture')
    yield from told(lambda each: each.is_deep,
                    'images have 16 bits a channel, of which the upper 8 count')
    yield from told(lambda each: _is_of_one_class(each.counts),
                    'label maps have one class at every pixel')
    yield from told(lambda each: _values(each.counts) == [IGNORE_INDEX],
                    'label maps are void at every pixel')
    yield from told(lambda each: _values(each.counts) == [0, IGNORE_INDEX],
                    f'label maps have the values 0 and 255 alone, that is {domain.classes[0]} and '
                    'void; where 255 was painted, `univseg import-labels --painted CLASS` makes '
                    'label maps of them')
    yield from told(lambda each: each.palette is not None,
                    'label maps have a palette; what counts is their indices')
    yield from told(lambda each: _begins_with_background(each.palette, domain),
                    'label maps with a palette have the colour of a background at index 0, which '
                    f'counts as {domain.classes[0]}; where it is a background, `univseg '
                    'import-labels --background void` makes label maps of them')
    yield from told(lambda each: _of_other_classes(each, domain),
                    'label maps have a palette in which an index has the colour of another class; '
                    '`univseg import-labels --palette colours` goes by the colours')


def _values(counts: np.ndarray | None) -> list[int]:
    return [] if counts is None else np.flatnonzero(counts).tolist()


def _is_of_one_class(counts: np.ndarray | None) -> bool:
    values = _values(counts)
    return len(values) == 1 and values != [IGNORE_INDEX]


def _begins_with_background(palette: np.ndarray | None, domain: Domain) -> bool:
    return palette is not None and tuple(palette[0].tolist()) == void_colour(domain.palette)


def _of_other_classes(seen: Seen, domain: Domain) -> bool:
    if seen.palette is None:
        return False
    for index in _values(seen.counts):
        colour = tuple(seen.palette[index].tolist()) if index < len(seen.palette) else None
        if domain.palette.count(colour) == 1 and domain.palette.index(colour) != index:
            return True
    return False
