"""What one image and its label map are like, and what many of them raise as questions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
import hashlib
from pathlib import Path

import numpy as np
from univseg_core.batches.overlaps import Look, look_of
from univseg_core.datasets.folders import DataError, misfit, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import first_few, UnivsegError
from univseg_core.pictures.images import decode_image, PlainLabels, read_label
from univseg_core.pictures.label_meaning import QuestionError
from univseg_core.pictures.palette_png import png_palette
from univseg_core.pictures.picture_files import file_bytes, ImageError, read_header


@dataclass(frozen=True)
class Seen:
    """
    A sample that could be read.

    `size` is 'WIDTH×HEIGHT' as it is seen, `orientation` and `is_deep` are those of the image
    file's header. `counts` (256,) is how often its label map has each value, None where it has
    none, or where a `question` about it is open; `palette` the label map's (n, 3), where it is a
    plain one that has a palette.
    """

    sample: Sample
    size: str
    orientation: int
    is_deep: bool
    look: Look
    counts: np.ndarray | None = None
    palette: np.ndarray | None = None
    question: str = ''


def inspect(sample: Sample, domain: Domain) -> Seen | str:
    """Return what a sample is like, or what is wrong with it; each file is read once."""
    try:
        data = file_bytes(sample.image)
        try:
            image, header = decode_image(data), read_header(data)
        except ImageError as error:
            raise ImageError(f'{sample.image}: {error}') from None
        seen = Seen(sample, f'{image.shape[1]}×{image.shape[0]}', header.orientation,
                    header.is_deep, look_of(sample, hashlib.sha256(data).digest(), image))
        if sample.label is None:
            return seen
        palette = None
        if isinstance(sample.read_label, PlainLabels):
            data = file_bytes(sample.label)
            label = sample.read_label.read(data, sample.label, domain)
            palette = png_palette(data)
        else:
            label = sample.read_label(sample.label, domain)
        if wrong := misfit(label.shape, image.shape[:2], header.orientation):
            raise DataError(f'{sample.label}: {wrong}')
        return replace(seen, counts=np.bincount(label.ravel(), minlength=256), palette=palette)
    except QuestionError as error:
        return replace(seen, question=str(error))
    except UnivsegError as error:
        return str(error)


def questions_of(seen: Sequence[Seen]) -> Iterator[str]:
    """Yield the first question of each folder of label maps, and of how many it is one."""
    of_folder: dict[Path, list[str]] = {}
    for each in seen:
        if each.question and each.sample.label:
            of_folder.setdefault(each.sample.label.parent, []).append(each.question)
    for first, *others in of_folder.values():
        yield first + (f'; the same of {len(others)} more in this folder' if others else '')


def masks_among_others(domain: Domain) -> str:
    """Return what is said of label maps that look like masks, in a folder of others."""
    return (f'label maps have the values 0 and 255 alone, that is {domain.classes[0]} and void; '
            'where 255 was painted, `univseg import-labels --painted CLASS` makes label maps of '
            'them')


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
    yield from told(lambda each: _values(each.counts) == [0, IGNORE_INDEX]
                    and each.sample.read_label == read_label, masks_among_others(domain))
    yield from told(lambda each: each.palette is not None,
                    'label maps have a palette; what counts is their indices')
    yield from told(lambda each: _of_other_classes(each, domain),
                    'label maps have a palette in which an index has the colour of another class; '
                    '`univseg import-labels --palette colours` goes by the colours')


def _values(counts: np.ndarray | None) -> list[int]:
    return [] if counts is None else np.flatnonzero(counts).tolist()


def _is_of_one_class(counts: np.ndarray | None) -> bool:
    values = _values(counts)
    return len(values) == 1 and values != [IGNORE_INDEX]


def _of_other_classes(seen: Seen, domain: Domain) -> bool:
    reader = seen.sample.read_label
    if seen.palette is None or not isinstance(reader, PlainLabels) or reader.meaning.is_mask:
        return False
    values = _values(seen.counts)
    for index, meant in enumerate(reader.meaning.classes_of_indices(domain)[:len(seen.palette)]):
        colour = tuple(seen.palette[index].tolist())
        if meant in values and domain.palette.count(colour) == 1 and (
                domain.palette.index(colour) != meant):
            return True
    return False
