"""What the tests of readers share."""

import json
from pathlib import Path

from univseg_core.annotations.painting import painted
from univseg_core.pictures.images import read_codes

FIXTURES = Path(__file__).parent / 'fixtures'


def written(path, values):
    """Write values as a JSON file, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def classes_of(image, index_of, background=255):
    """Return the classes of an annotated image's pixels."""
    return painted(image, *image.size, index_of, background)


def codes(name):
    """Return the values of a fixture's PNG."""
    return read_codes(FIXTURES / name)
