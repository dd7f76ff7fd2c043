"""Label maps as annotation tools give them back: indices, palettes or colours → class indices."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from univseg_core.annotations.colours import (
    Colour,
    colour_table,
    ForeignColoursError,
    numbers_by_colour,
)
from univseg_core.annotations.no_class import is_no_class, says_unpainted
from univseg_core.domains import Domain, IGNORE_INDEX, void_colour
from univseg_core.errors import UnivsegError
from univseg_core.labelling.class_names import ClassNames
from univseg_core.pictures.encoded import PNG_SIGNATURE
from univseg_core.pictures.images import decode_codes, opencv_image, upright
from univseg_core.pictures.label_meaning import (
    begins_with_background,
    is_background,
    LabelMeaning,
    values_in_black_and_white,
)
from univseg_core.pictures.palette_png import COLOUR_TYPE, decode_palette_png
from univseg_core.pictures.picture_files import (
    file_bytes,
    ImageError,
    PNG_BIT_DEPTH,
    read_header,
)

PaletteBy = Literal['auto', 'indices', 'colours']
"""What counts in a PNG with a palette; auto: indices, unless its colours say otherwise."""

GREY_WITH_OPACITY = 4
"""A PNG's colour type of grey pixels with a channel of opacity."""


def class_colours(domain: Domain, void: Colour | None = None,
                  named: Mapping[str, Colour] | None = None,
                  names: ClassNames | None = None) -> dict[Colour, int]:
    """
    Return the class index of each colour (red, green, blue); 255 of those of void.

    `void` is black when left out, or what `void_colour` gives where black is a class. `named`
    are colours by label, as `read_labelmap` returns them, instead of the domain's own, and `names`
    says which classes the labels are; what is no class by its name, as `background`, is void
    unless they say otherwise. A colour of several classes is none's. Raises UnivsegError where
    void has a class's colour.
    """
    if named is None:
        meant = list(zip(domain.palette, range(len(domain.classes)), strict=True))
        voids = [void] if void is not None else []
    else:
        meanings = meanings_of(named, names or ClassNames(domain))
        meant = [(named[label], -1 if index is None else index)
                 for label, index in meanings.items()
                 if index != IGNORE_INDEX or not says_unpainted(label)]
        backgrounds = [named[label] for label, index in meanings.items()
                       if index == IGNORE_INDEX and says_unpainted(label)]
        voids = backgrounds if void is None else [void]
    table: dict[Colour, int] = {}
    for colour, index in meant:
        if {other for same, other in meant if same == colour} == {index} and index >= 0:
            table[colour] = index
    voids = voids or [void_colour([colour for colour, _ in meant])]
    for colour in voids:
        if any(same == colour and 0 <= index < IGNORE_INDEX for same, index in meant):
            raise UnivsegError(f'the colour of void, {colour}, is that of a class of '
                               f'{domain.name}')
    return table | dict.fromkeys(voids, IGNORE_INDEX)


def meanings_of(named: Collection[str], names: ClassNames) -> dict[str, int | None]:
    """Return the class of each label of a labelmap, 255 of void, None of one that is no class."""
    return {label: IGNORE_INDEX if is_no_class(label) and not names.has(label, named)
            else names.index(label) for label in named}


def foreign_names(named: Mapping[str, Colour], names: ClassNames) -> dict[Colour, str]:
    """Return, by colour, the labels of a labelmap that are neither a domain's classes nor void."""
    return {named[label]: label for label, index in meanings_of(named, names).items()
            if index is None}


@dataclass(frozen=True)
class LabelDecoder:
    """
    How label maps are read: as indices of `domain`, or by the exact `colours` of its classes.

    `colours` are those of `class_colours`, `foreign` those of `foreign_names`, which are named
    where a pixel has one. `palette_by` says what counts in a PNG with a palette. `background` and
    `painted` answer what cannot be seen in a file: what index 0 is, with the other classes in
    their order behind it, or what void's colours are, and what 255 is in a map of 0 and 255 alone:
    'void' or a class (LabelMeaning has the details). Raises UnivsegError for any other answer.
    """

    domain: Domain
    colours: Mapping[Colour, int]
    palette_by: PaletteBy = 'auto'
    background: str | None = None
    painted: str | None = None
    foreign: Mapping[Colour, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if wrong := self.meaning.wrong(self.domain.classes):
            raise UnivsegError(f'--{wrong}')

    @property
    def meaning(self) -> LabelMeaning:
        """Return the answers as those of this command."""
        return LabelMeaning(self.background, self.painted, '--{} {}')

    def read(self, path: Path) -> np.ndarray:
        """
        Return a PNG as (H, W) uint8 class indices, 255 where void.

        A PNG of one channel holds indices, one of three colours, one with a palette either:
        colours where they are void's and then all classes' in their order, as `prelabel` writes
        them.
        Raises ImageError, which names the file, for another file, for foreign indices or
        colours, for a palette whose colours are those of other classes than its indices, and for
        what can be read in two ways, of which `background` or `painted` is to say one.
        """
        data = file_bytes(path)
        try:
            return self._decode(data)
        except ImageError as error:
            raise ImageError(f'{path}: {error}') from None

    def _decode(self, data: bytes) -> np.ndarray:
        if not data.startswith(PNG_SIGNATURE):
            raise ImageError('expected a PNG; other formats may change indices and colours')
        orientation = read_header(data).orientation
        with_palette = decode_palette_png(data)
        if with_palette is not None:
            return upright(self._by_palette(*with_palette), orientation)
        image = opencv_image(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is not None and data[COLOUR_TYPE] == GREY_WITH_OPACITY:
            image = self._opaque(image)[..., 0]
        # Of 1 bit, black and white; of 2 or 4, nobody can tell whether greys or indices are meant.
        if (image is not None and image.ndim == 2 and image.max() < 256
                and data[PNG_BIT_DEPTH] not in (2, 4)):
            return self._by_grey(upright(image.astype(np.uint8), orientation))
        if image is None or image.ndim == 2:
            return self._by_grey(decode_codes(data))  # or why they are none
        if image.dtype != np.uint8:
            raise ImageError(f'expected 8 bits a channel, got {8 * image.itemsize}')
        return upright(self._by_colour(self._opaque(image)[..., 2::-1]), orientation)

    @staticmethod
    def _opaque(image: np.ndarray) -> np.ndarray:
        """Return a picture of three channels, or four of which the last is opaque throughout."""
        see_through = image[..., 3:] < np.iinfo(image.dtype).max
        if see_through.any():
            raise ImageError(f'{see_through.sum()} pixels are transparent; expected colours alone')
        return image

    def _by_grey(self, codes: np.ndarray) -> np.ndarray:
        """Return the classes of a grey label map: of indices, or a mask of one class."""
        if self.painted is None and np.unique(codes).tolist() == [0, IGNORE_INDEX]:
            raise self.meaning.question_of_mask(self.domain.classes)
        return self.meaning.of_grey(codes, self.domain)

    def _by_palette(self, indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
        colours = [tuple(colour) for colour in palette.tolist()]
        if self.palette_by == 'colours' or (
                self.palette_by == 'auto' and self.background is None
                and self._is_of_prelabel(colours)):
            return self._by_colour(palette[indices])
        first = self.colours.get(colours[0])
        found = np.unique(indices).tolist()
        # Of a background and void alone, there are label maps, too.
        says_nothing = self.background is None and first != 0 and not is_background(
            self.domain.classes[0])
        black_and_white = values_in_black_and_white(indices, palette)
        if self.painted is None and (len(black_and_white) == 2 or (
                found == [0, IGNORE_INDEX] and says_nothing)):
            raise self.meaning.question_of_mask(self.domain.classes)
        if self.meaning.is_mask or (self.painted and black_and_white):
            return self.meaning.of_palette(indices, palette, self.domain)
        self._check_colours(found, colours)
        voids = [colour for colour, index in self.colours.items() if index == IGNORE_INDEX]
        if self.background is None and first != 0 and begins_with_background(
                palette, self.domain, voids):
            raise self.meaning.question_of_background(palette, self.domain)
        return self.meaning.of_indices(indices, self.domain)

    def _is_of_prelabel(self, palette: list[Colour]) -> bool:
        """Return whether a palette has the colour of void, then all classes' in their order."""
        count = len(self.domain.classes)
        return [self.colours.get(colour) for colour in palette[:count + 1]] == [
            IGNORE_INDEX, *range(count)]

    def _check_colours(self, found: list[int], colours: list[Colour]) -> None:
        """Raise ImageError where indices that were found have colours of other classes."""
        table = self.meaning.classes_of_indices(self.domain)
        for index in found if self.palette_by == 'auto' else ():
            meant = self.colours.get(colours[index], IGNORE_INDEX)
            if meant not in (table[index], IGNORE_INDEX):
                raise ImageError(
                    f'its palette gives index {index} the colour {colours[index]} of class '
                    f'{meant}, {self.domain.classes[meant]}; say whether indices or colours '
                    'count (--palette)')

    def _by_colour(self, image: np.ndarray) -> np.ndarray:
        """Return the classes (H, W) uint8 of an image (H, W, 3) uint8 RGB."""
        colours = dict(self.colours)
        if self.background in self.domain.classes:
            index = self.domain.classes.index(self.background)
            colours = {colour: index if each == IGNORE_INDEX else each
                       for colour, each in colours.items()}
        try:
            return numbers_by_colour(image, colour_table(colours)).astype(np.uint8)
        except ForeignColoursError as error:
            raise ImageError(f'colours that stand for no class of {self.domain.name} or for '
                             f'several: {error.text(self._named)}') from None

    def _named(self, colour: Colour) -> str:
        return f', {self.foreign[colour]} of the labelmap,' if colour in self.foreign else ''
