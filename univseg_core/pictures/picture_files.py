"""Picture files before they are decoded: which there are, their bytes, what they say they hold."""

from dataclasses import dataclass
import io
from pathlib import Path
import stat
from typing import TYPE_CHECKING
import warnings

from univseg_core.errors import UnivsegError
from univseg_core.files.limits import PIXELS
from univseg_core.pictures.encoded import encoded_size, PNG_SIGNATURE

if TYPE_CHECKING:  # what has no picture file, such as a camera's node, does without Pillow
    from PIL import Image

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')
"""How the names of pictures end, in lower case or not."""

OTHER_SUFFIXES = ('.avif', '.cr2', '.dng', '.gif', '.heic', '.heif', '.jfif', '.jp2', '.jpe',
                  '.jxl', '.nef', '.pgm', '.ppm')
"""How the names of pictures end that are not read."""

FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP')
"""What is read, whatever a file's name says."""

MOST_BYTES_OF_A_PIXEL = 8
"""Four channels of 16 bits, not compressed."""

OTHER_CONTENT = 1 << 24
"""Bytes that a file may have beside its pixels: profiles, previews, headers."""

PNG_BIT_DEPTH = 24
"""Where in a PNG file the bits of a pixel's channel stand."""

ORIENTATION, BITS_PER_SAMPLE = 0x0112, 0x0102
"""Tags of EXIF data and of TIFF: how the picture lies in the file, 1 (upright) to 8; depths."""

# Of damaged EXIF data, which does not matter here, Pillow warns with a line of its own code.
warnings.filterwarnings('ignore', module=r'PIL\.TiffImagePlugin')


class ImageError(UnivsegError):
    """A file that is not the image or label map that it should be."""


class NotCodesError(ImageError):
    """A whole image whose values are no class indices."""


@dataclass(frozen=True)
class Header:
    """
    What a file says of its picture.

    `pixels` is its height times its width, `orientation` that of its EXIF data, 1 where it has
    none, `kind` Pillow's word for its format, and `is_deep` whether it has 16 bits a channel.
    """

    pixels: int
    orientation: int
    kind: str
    is_deep: bool


def is_picture(path: Path) -> bool:
    """Return whether a file's name is that of a picture: by its ending, and not hidden."""
    # A Mac puts ._NAME.png beside NAME.png on disks that are not its own.
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')


def image_files(folder: Path) -> list[Path]:
    """Return a folder's picture files, sorted by name so that every disk gives the same order."""
    return sorted(filter(is_picture, folder.iterdir()))


def unread_files(folder: Path) -> list[Path]:
    """Return a folder's picture files of kinds that are not read, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in OTHER_SUFFIXES
                  and not path.name.startswith('.'))


def largest_file() -> int:
    """Return how many bytes the file of a picture of limits.PIXELS may have."""
    return MOST_BYTES_OF_A_PIXEL * PIXELS() + OTHER_CONTENT


def file_bytes(path: Path | str) -> bytes:
    """
    Return a picture file's bytes.

    Raises ImageError, which names the file, where it is missing, empty, no file at all (a pipe
    would be waited for), or larger than any picture of limits.PIXELS.
    """
    try:
        facts = Path(path).stat()
        if not stat.S_ISREG(facts.st_mode):
            raise ImageError(f'{path}: cannot be read: expected a file')
        if facts.st_size > largest_file():
            raise ImageError(f'{path}: {facts.st_size} bytes are more than any picture of '
                             f'{PIXELS} has')
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f'{path}: cannot be read: {error.strerror}') from error
    if not data:
        raise ImageError(f'{path}: the file is empty; expected an image')
    return data


def read_header(data: bytes) -> Header:
    """
    Return what a JPEG, PNG, BMP, TIFF or WebP file says of its picture; nothing is decoded.

    Raises ImageError for any other file, one that is cut off, and one of more than limits.PIXELS.
    """
    from PIL import Image
    try:
        size = encoded_size(data)
    except ValueError as error:
        raise ImageError(f'not a readable image ({error})') from None
    if size is not None:
        _check_pixels(size[0] * size[1])
    if Image.MAX_IMAGE_PIXELS is not None and PIXELS() > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = PIXELS()  # Pillow has a limit of its own
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_pixels(image.width * image.height)
            return Header(image.width * image.height, _orientation(image, data),
                          image.format or '', _is_deep(image, data))
    except Image.DecompressionBombError:
        raise ImageError(f'more than {PIXELS}') from None
    except (ImageError, MemoryError):
        raise
    except Exception:  # whatever a damaged file makes Pillow's parsers raise
        if size is None:
            raise ImageError('not a readable image (damaged, or of an unknown format)') from None
        return Header(size[0] * size[1], 1, '', is_deep=False)


def orientation_of(data: bytes) -> int:
    """Return the orientation, 1 to 8, in a picture file's EXIF data; 1 of what is no such file."""
    try:
        return read_header(data).orientation
    except ImageError:
        return 1


def _check_pixels(pixels: int) -> None:
    if pixels > PIXELS():
        raise ImageError(f'{pixels} pixels, more than {PIXELS}')


def _orientation(image: 'Image.Image', data: bytes) -> int:
    """Return the orientation of an opened file, 1 where it has none, or none that there is."""
    from PIL import Image
    try:
        if image.format == 'TIFF':
            found = image.tag_v2.get(ORIENTATION)  # type: ignore[attr-defined]
        else:
            tags = Image.Exif()
            # Pillow's own getexif() decodes a PNG, in search of EXIF data behind its pixels.
            tags.load(_exif_of_png(data) if image.format == 'PNG' else image.info.get('exif', b''))
            found = tags.get(ORIENTATION)
    except Exception:  # of damaged EXIF data; the picture may be whole
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _exif_of_png(data: bytes) -> bytes:
    """Return a whole PNG's EXIF data, which may stand before its pixels or behind them, or b''."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        length, name = int.from_bytes(data[at:at + 4], 'big'), data[at + 4:at + 8]
        if name == b'eXIf':
            return data[at + 8:at + 8 + length]
        at += 12 + length
    return b''


def _is_deep(image: 'Image.Image', data: bytes) -> bool:
    if image.format == 'PNG':
        return data[PNG_BIT_DEPTH] == 16
    bits = (image.tag_v2.get(BITS_PER_SAMPLE)  # type: ignore[attr-defined]
            if image.format == 'TIFF' else None)
    return 16 in (bits if isinstance(bits, tuple) else (bits,))
