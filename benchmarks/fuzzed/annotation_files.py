"""Files of annotation tools, as they or we write them, and how they are read."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

FIXTURES = Path(__file__).parents[2] / 'tests' / 'core' / 'annotations' / 'fixtures'


def of_tools(*names: str) -> Callable[[Path], list[bytes]]:
    """Return what gives files that tools have written, by their names among the fixtures."""
    return lambda folder: [(FIXTURES / name).read_bytes() for name in names]


def written(*formats: str) -> Callable[[Path], list[bytes]]:
    """Return what makes a file of each of some formats, of one small image."""
    def make(folder: Path) -> list[bytes]:
        from univseg_core.annotations.formats import FORMATS
        from univseg_core.domains import Domain

        mask = np.full((24, 32), 255, np.uint8)
        mask[3:20, 4:25], mask[6:12, 8:14] = 0, 1
        found = []
        for name in formats:
            write = FORMATS[name].write
            assert write is not None
            (folder / name).mkdir()
            writer = write(folder / name, Domain.create('d', ['a', 'b']))
            writer.add(Path('a.png'), mask, 1)
            writer.finish()
            # The largest has the annotations; others list classes.
            files = [path for path in (folder / name).rglob('*') if path.is_file()]
            found.append(max((path.read_bytes() for path in files), key=len))
        return found
    return make


def reader(name: str) -> Callable[[Path], None]:
    """Return what reads a file of a format and paints its images."""
    def read(path: Path) -> None:
        from univseg_core.annotations.formats import FORMATS
        from univseg_core.annotations.painting import painted
        from univseg_core.annotations.regions import AnnotationError

        of = FORMATS[name]
        assert of.recognises is not None and of.read is not None
        of.recognises(path)
        for image in of.read(path):
            with suppress(AnnotationError):
                painted(image, *(image.size or (24, 32)),
                        {region.label: 0 for region in image.regions})
    return read
