"""Label maps as annotation tools give them back: indices, palettes or colours → class indices."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import UnivsegError
from univseg_core.labelling.palette_png import decode_palette_png
from univseg_core.labelling.prelabels import void_colour, VOID_NAME
from univseg_core.pictures.encoded import PNG_SIGNATURE
from univseg_core.pictures.images import ImageError, opencv_image, read_label

Colour = tuple[int, int, int]

PALETTE_BY = ('auto', 'indices', 'colours')
"""What counts in a PNG with a palette; auto: indices, unless its colours say otherwise."""

COLOURS_SHOWN = 5


def class_colours(domain: Domain, void: Colour | None = None,
                  named: Mapping[str, Colour] | None = None) -> dict[Colour, int]:
    """
    Return the class index of each colour (red, green, blue); 255 of that of void.

    `void` is black when left out, or what `void_colour` gives where black is a class. `named`
    are colours by class name, as `read_labelmap` returns them, instead of the domain's own. A
    colour of several classes is none's. Raises UnivsegError where void has a class's colour.
    """
    classes = dict(zip(domain.classes, domain.palette, strict=True))
    if named is not None:
        foreign = sorted(named.keys() - {*classes, VOID_NAME})
        if foreign:
            raise UnivsegError(f'the labelmap names {", ".join(foreign)}, which are no classes '
                               f'of {domain.name}: {", ".join(domain.classes)}')
        classes = {name: colour for name, colour in named.items() if name != VOID_NAME}
        void = void or named.get(VOID_NAME)
    colours = list(classes.values())
    table = {colour: domain.classes.index(name) for name, colour in classes.items()
             if colours.count(colour) == 1}
    void = void or void_colour(domain)
    if void in colours:
        raise UnivsegError(f'the colour of void, {void}, is that of a class of {domain.name}')
    return table | {void: IGNORE_INDEX}


def read_labelmap(path: Path) -> dict[str, Colour]:
    """
    Return the colours by name of a labelmap.txt, of lines name:red,green,blue:parts:actions.

    Empty lines and those that begin with # say nothing. Raises UnivsegError, which names file
    and line, for any other line or a name that comes twice.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnivsegError(f'{path}: cannot be read: {error}') from error
    found: dict[str, Colour] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith('#'):
            continue
        name, _, rest = line.partition(':')
        values = [value.strip() for value in rest.split(':')[0].split(',')]
        if not name or name in found or len(values) != 3 or not all(
                value.isdecimal() and int(value) < 256 for value in values):
            raise UnivsegError(f'{path}, line {number}: expected name:red,green,blue:: with three '
                               f'numbers 0..255, and each name once; got {line!r}')
        red, green, blue = (int(value) for value in values)
        found[name] = red, green, blue
    return found


@dataclass(frozen=True)
class LabelDecoder:
    """
    How label maps are read: as indices of `domain`, or by the exact `colours` of its classes.

    `colours` are those of `class_colours`; `palette_by`, of `PALETTE_BY`, says what counts in a
    PNG with a palette.
    """

    domain: Domain
    colours: Mapping[Colour, int]
    palette_by: str = 'auto'

    def read(self, path: Path) -> np.ndarray:
        """
        Return a PNG as (H, W) uint8 class indices, 255 where void.

        A PNG of one channel holds indices, one of three colours, one with a palette either.
        Raises ImageError, which names the file, for another file, for foreign indices or
        colours, and for a palette whose colours are those of other classes than its indices.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(f'{path}: cannot be read: {error.strerror}') from error
        try:
            return self._decode(path, data)
        except ImageError as error:
            named = str(error).startswith(str(path))
            raise ImageError(str(error) if named else f'{path}: {error}') from None

    def _decode(self, path: Path, data: bytes) -> np.ndarray:
        if not data.startswith(PNG_SIGNATURE):
            raise ImageError('expected a PNG; other formats may change indices and colours')
        with_palette = decode_palette_png(data)
        if with_palette is not None:
            return self._by_palette(*with_palette)
        image = opencv_image(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim == 2:
            return read_label(path, self.domain)  # or why it is none
        if image.dtype != np.uint8:
            raise ImageError(f'expected 8 bits a channel, got {8 * image.itemsize}')
        if image.shape[2] == 4 and (image[..., 3] < 255).any():
            raise ImageError(f'{(image[..., 3] < 255).sum()} pixels are transparent; expected '
                             'colours alone')
        return self._by_colour(image[..., 2::-1])

    def _by_palette(self, indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
        if self.palette_by == 'colours':
            return self._by_colour(palette[indices])
        count = len(self.domain.classes)
        occurring = np.unique(indices).tolist()
        if self.palette_by == 'auto':
            for index in occurring:
                colour = tuple(palette[index].tolist())
                meant = self.colours.get(colour, IGNORE_INDEX)
                if meant not in (index, IGNORE_INDEX):
                    raise ImageError(
                        f'its palette gives index {index} the colour {colour} of class {meant}, '
                        f'{self.domain.classes[meant]}; say whether indices or colours count '
                        '(--palette)')
        foreign = [index for index in occurring if count <= index != IGNORE_INDEX]
        if foreign:
            raise ImageError(f'label indices {foreign[:8]} are outside domain {self.domain.name}, '
                             f'which has classes 0..{count - 1}, and 255 for void')
        return indices

    def _by_colour(self, image: np.ndarray) -> np.ndarray:
        """Return the classes (H, W) uint8 of an image (H, W, 3) uint8 RGB."""
        codes = image.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        found, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        colours = [(code >> 16, code >> 8 & 255, code & 255) for code in found.tolist()]
        unknown = sorted((-count, colour) for colour, count
                         in zip(colours, counts.tolist(), strict=True)
                         if colour not in self.colours)
        if unknown:
            texts = [f'{colour} in {-count} pixels' for count, colour in unknown[:COLOURS_SHOWN]]
            if len(unknown) > COLOURS_SHOWN:
                texts.append(f'and {len(unknown) - COLOURS_SHOWN} more colours')
            raise ImageError(f'colours that stand for no class of {self.domain.name} or for '
                             f'several: {", ".join(texts)}')
        classes = np.array([self.colours[colour] for colour in colours], np.uint8)
        return classes[inverse].reshape(codes.shape)
