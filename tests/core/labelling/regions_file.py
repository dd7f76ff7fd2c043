"""A format of its own for tests: a text of rectangles, which a file of another ending is not."""

from collections.abc import Iterator
from pathlib import Path

from univseg_core.annotations.formats import Format
from univseg_core.annotations.regions import (
    AnnotatedImage,
    AnnotationError,
    Polygons,
    Region,
    ring,
)


def recognises(path: Path) -> bool:
    return path.suffix == '.boxes' or (path.is_dir() and any(path.glob('*.boxes')))


def read(path: Path) -> Iterator[AnnotatedImage]:
    """Yield an image a line: 'name[@heightxwidth]: label left top right bottom; …'."""
    for file in sorted(path.glob('*.boxes')) if path.is_dir() else [path]:
        for line in file.read_text().splitlines():
            name, _, rest = line.partition(':')
            name, _, size = name.partition('@')
            regions = []
            for number, words in enumerate(filter(None, map(str.split, rest.split(';'))), 1):
                if len(words) != 5:
                    raise AnnotationError(f'{file}: {name}: box {number}: expected a label and 4 '
                                          f'numbers, got {" ".join(words)}')
                left, top, right, bottom = map(float, words[1:])
                corners = ring([(left, top), (right, top), (right, bottom), (left, bottom)])
                regions.append(Region(words[0], Polygons([corners]), f'box {number}'))
            height, _, width = size.partition('x')
            yield AnnotatedImage(name, (int(height), int(width)) if size else None,
                                 tuple(regions), file)


BOXES = Format('rectangles', recognises, read)
