"""
CVAT's XML, "CVAT for images 1.1" and "CVAT for video 1.1".

No library reads it but Datumaro, which is larger than this package with all it needs, keeps a file
whole, and takes of masks what they say for granted. It is read by expat, a piece at a time; a file
that declares a document type, and could so declare entities, is refused.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
import logging
import math
from pathlib import Path
import re
from xml.parsers import expat

import numpy as np
from univseg_core.annotations.json_files import checked_size, files_below
from univseg_core.annotations.problems import Problems, quoted
from univseg_core.annotations.regions import (
    AnnotatedImage,
    AnnotationError,
    Polygons,
    Region,
    ring,
    Shape,
)
from univseg_core.annotations.run_lengths import RowRuns
from univseg_core.errors import shortened
from univseg_core.files.limits import RECORDS

HEAD = 4096
"""Bytes at the beginning of a file by which it is recognised."""

AT_A_TIME = 1 << 20
"""Bytes that are read at a time."""

NO_REGIONS = ('box', 'cuboid', 'points', 'polyline', 'skeleton')
"""What people draw around or on things, and not along their borders."""

ON_AN_ELLIPSE = np.linspace(0, 2 * np.pi, 180, endpoint=False)
"""Angles of the corners by which an ellipse is drawn: a polygon of 0.02 % less area."""

log = logging.getLogger(__name__)

Attributes = Mapping[str, str]


def is_cvat(path: Path) -> bool:
    """Return whether a file is CVAT's XML, by its beginning, or a folder has one."""
    if path.is_dir():
        return bool(_files(path))
    if path.suffix.lower() != '.xml' or not path.is_file():
        return False
    try:
        with path.open('rb') as file:
            return re.search(rb'<annotations[\s>]', file.read(HEAD)) is not None
    except OSError:
        return False


def _files(folder: Path) -> list[Path]:
    return [path for path in files_below(folder, '.xml') if is_cvat(path)]


def read_cvat(path: Path) -> Iterator[AnnotatedImage]:
    """
    Yield the images of an XML file of CVAT, or of those in a folder.

    Regions are polygons, masks and ellipses; of those that overlap, the one of the larger z_order
    counts, of equal ones the later one in the file. Boxes, lines and points are left out, and
    their number goes to the log. Frames of a video are called frame_000012.PNG, as CVAT itself
    exports them, and come in the end.

    Raises AnnotationError, which names the file and the lines of all that is wrong in it, behind
    the images that are sound.
    """
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise AnnotationError(f'{path}: expected an XML file of CVAT, or a folder of some')
    for file in files:
        yield from _images_of(file)


def _images_of(path: Path) -> Iterator[AnnotatedImage]:
    parser = expat.ParserCreate()
    contents = _Contents(path, Problems(path))

    def start(tag: str, attributes: Attributes) -> None:
        contents.start(tag, attributes, parser.CurrentLineNumber)

    def no_entities(*_: object) -> None:
        raise AnnotationError(f'{path}: a document type is declared, as CVAT does not; such files '
                              'are not read')

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = contents.end
    parser.CharacterDataHandler = contents.text
    parser.StartDoctypeDeclHandler = no_entities
    try:
        if path.stat().st_size > RECORDS():
            raise AnnotationError(f'{path}: more than {RECORDS}')
        with path.open('rb') as file:
            while piece := file.read(AT_A_TIME):
                parser.Parse(piece, False)
                yield from contents.finished()
        parser.Parse(b'', True)
    except AnnotationError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two of its encoding
        raise AnnotationError(f'{path}: not whole XML: {error}') from error
    except OSError as error:
        raise AnnotationError(f'{path}: cannot be read: {error.strerror}') from error
    yield from contents.finished()
    contents.tell()
    yield from contents.frames()


@dataclass
class _Contents:
    """What a file says, as far as it is read; `before` an image, there were so many problems."""

    source: Path
    problems: Problems
    tags: list[str] = field(default_factory=list)
    image: AnnotatedImage | None = None
    track: str | None = None
    drawn: list[tuple[int, Region]] = field(default_factory=list)
    of_frame: dict[int, list[tuple[int, Region]]] = field(default_factory=dict)
    frame_size: dict[str, str] = field(default_factory=dict)
    done: deque[AnnotatedImage] = field(default_factory=deque)
    names: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    regions: int = 0
    before: int = 0

    def start(self, tag: str, attributes: Attributes, line: int) -> None:
        """Take the beginning of an element; raise AnnotationError for XML of another kind."""
        if not self.tags and tag != 'annotations':
            raise AnnotationError(f'{self.source}: expected annotations of CVAT, got XML of '
                                  f'{shortened(tag, 40)!r}')
        self.tags.append(tag)
        try:
            if tag == 'image':
                self.before = self.problems.count
                self.image = self._image(attributes)
            elif tag == 'track':
                self.track = _text(attributes, 'label')
            elif self.image or self.track:
                self._draw(tag, attributes, f'{tag} in line {line}')
        except AnnotationError as error:
            of = f'{quoted(self.image.image, 300)}: ' if self.image else ''
            self.problems.add(f'{of}{tag} in line {line}: {error}')

    def end(self, tag: str) -> None:
        """Take the end of an element."""
        self.tags.pop()
        if tag == 'track':
            self.track = None
        elif tag == 'image' and self.image:
            if self.problems.count == self.before:
                self.done.append(_with(self.image, self.drawn))
            self.image, self.drawn = None, []

    def text(self, text: str) -> None:
        """Take the text between two tags: of a video, the size of its frames."""
        if self.tags[-2:-1] == ['original_size']:
            self.frame_size[self.tags[-1]] = text

    def finished(self) -> Iterator[AnnotatedImage]:
        """Yield the images that are whole by now."""
        while self.done:
            yield self.done.popleft()

    def frames(self) -> Iterator[AnnotatedImage]:
        """Yield the frames of a video."""
        size = None
        if self.of_frame and self.frame_size:
            try:
                size = _size(self.frame_size)
            except AnnotationError as error:
                raise AnnotationError(f'{self.source}: original_size: {error}') from None
        for number, drawn in sorted(self.of_frame.items()):
            image = AnnotatedImage(f'frame_{number:06d}.PNG', size, (), self.source)
            yield _with(image, drawn)

    def tell(self) -> None:
        """Log what was left out; raise AnnotationError for what was wrong, or nothing else."""
        self.problems.tell()
        if not self.names and not self.of_frame and not self.left_out:
            raise AnnotationError(f'{self.source}: no images; expected "CVAT for images 1.1"')
        kinds = ', '.join(f'{count} {tag}' for tag, count in sorted(self.left_out.items()))
        if kinds and not self.regions:
            raise AnnotationError(f'{self.source}: no polygons, masks or ellipses, but {kinds}, '
                                  'which are no regions')
        if kinds:
            log.warning('%s: what is no region is left out: %s', self.source, kinds)

    def _image(self, attributes: Attributes) -> AnnotatedImage:
        name = _text(attributes, 'name')
        if name in self.names:
            raise AnnotationError(f'{quoted(name, 300)} is there already')
        self.names.add(name)
        return AnnotatedImage(name, _size(attributes), (), self.source)

    def _draw(self, tag: str, attributes: Attributes, what: str) -> None:
        if tag in NO_REGIONS:
            self.left_out[tag] += 1
        if tag not in SHAPES:
            return
        label = self.track if self.track else _text(attributes, 'label')
        shape = SHAPES[tag](attributes)
        above = _whole(attributes, 'z_order', '0')
        drawn = self.drawn
        if self.track:
            frame = _whole(attributes, 'frame')
            if attributes.get('outside') == '1':  # where a track is interrupted, or ends
                return
            drawn = self.of_frame.setdefault(frame, [])
        drawn.append((above, Region(label, shape, what)))
        self.regions += 1


def _with(image: AnnotatedImage, drawn: list[tuple[int, Region]]) -> AnnotatedImage:
    """Return an image with regions, which come with their z_order."""
    regions = tuple(region for _, region in sorted(drawn, key=lambda each: each[0]))
    return AnnotatedImage(image.image, image.size, regions, image.source)


def _polygon(attributes: Attributes) -> Shape:
    points = _text(attributes, 'points')
    try:
        corners = [[float(number) for number in pair.split(',')] for pair in points.split(';')]
    except ValueError:
        raise AnnotationError('expected points x,y;x,y;…, got '
                              f'{shortened(points, 40)!r}') from None
    return Polygons([ring(corners)])


def _mask(attributes: Attributes) -> Shape:
    left, top = (_whole(attributes, key) for key in ('left', 'top'))
    return RowRuns(_text(attributes, 'rle'), *_size(attributes), left, top)


def _ellipse(attributes: Attributes) -> Shape:
    x, y, across, along = (_number(attributes, key) for key in ('cx', 'cy', 'rx', 'ry'))
    if min(across, along) < 0:
        raise AnnotationError(f'expected radii rx and ry of 0 or more, got {across:g} and '
                              f'{along:g}')
    angle = np.radians(_number(attributes, 'rotation', '0'))
    sides = np.stack([across * np.cos(ON_AN_ELLIPSE), along * np.sin(ON_AN_ELLIPSE)])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Polygons([ring((turn @ sides).T + np.array([x, y]))])


SHAPES: dict[str, Callable[[Attributes], Shape]] = {
    'polygon': _polygon, 'mask': _mask, 'ellipse': _ellipse}
"""How each element that is a region is read."""


def _text(attributes: Attributes, key: str) -> str:
    if not (value := attributes.get(key)):
        raise AnnotationError(f'expected an attribute {key}')
    return value


def _number(attributes: Attributes, key: str, default: str = '') -> float:
    value = attributes.get(key, default)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError(f'expected a number as its {key}, got {shortened(value, 40)!r}')
    return number


def _whole(attributes: Attributes, key: str, default: str = '') -> int:
    value = attributes.get(key, default)
    if not re.fullmatch('-?[0-9]{1,15}', value):
        raise AnnotationError(f'expected a whole number as its {key}, got '
                              f'{shortened(value, 40)!r}')
    return int(value)


def _size(attributes: Attributes) -> tuple[int, int]:
    """Return height and width, each above 0 and both within limits.PIXELS."""
    return checked_size(_whole(attributes, 'height'), _whole(attributes, 'width'))
