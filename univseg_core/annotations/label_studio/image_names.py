"""The images of Label Studio's tasks, by the addresses that it has for them."""

import base64
import binascii
from pathlib import PurePosixPath
import re
from urllib.parse import parse_qs, unquote, urlsplit

from univseg_core.annotations.regions import AnnotationError
from univseg_core.errors import shortened
from univseg_core.pictures.picture_files import IMAGE_SUFFIXES, OTHER_SUFFIXES

UPLOADED = re.compile(r'[0-9a-f]{8}-(?=.)')
"""What Label Studio puts before the name of a file that is uploaded."""


def image_names(address: str) -> tuple[str, tuple[str, ...]]:
    """
    Return what an address calls its image, a name or a path, and other names that it may have.

    Raises AnnotationError where it has no name, as an image within the address.
    """
    path = _path(address)
    name = PurePosixPath(path).name
    if not name or path.startswith('data:'):
        raise AnnotationError(f'{shortened(address, 80)}: expected the address of an image file')
    # An upload is known by its own name, and a name that only looks so by both.
    others = (UPLOADED.sub('', name, count=1), name, unquote(name), PurePosixPath(address).name)
    return path, tuple(dict.fromkeys(other for other in others if other not in (path, '')))


def address_of(data: dict) -> str:
    """Return the address of a task's image; raise AnnotationError where none or several are."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    if 'image' in texts:
        return texts['image']
    found = [value for value in texts.values() if _is_picture(value)]
    if len(found) != 1:
        raise AnnotationError(f'expected the address of one image in data.image, got '
                              f'{len(found)} in {shortened(", ".join(map(str, data)), 80)}')
    return found[0]


def _is_picture(address: str) -> bool:
    ending = PurePosixPath(_path(address)).suffix.lower()
    return ending in IMAGE_SUFFIXES + OTHER_SUFFIXES


def _path(address: str) -> str:
    """Return the path in an address, without percent signs, scheme, host, bucket and query."""
    if address.startswith('data:'):
        return address
    try:
        parts = urlsplit(address, allow_fragments=False)
        query = parse_qs(parts.query)
    except ValueError:  # a bracket or so, in what is no address
        return address
    if 'd' in query and parts.path.endswith('/local-files/'):
        return query['d'][0].lstrip('/')
    if 'fileuri' in query:  # of a project's cloud storage
        try:
            return _path(base64.b64decode(query['fileuri'][0]).decode())
        except (binascii.Error, ValueError):
            return address
    return unquote(parts.path).lstrip('/')
