"""How a video is known again, also while it grows: by its first pictures, and some bytes."""

from dataclasses import dataclass
import hashlib
from pathlib import Path

from univseg_core.pictures.video_file import open_video, VideoError

PICTURES = 100
"""How many of the first pictures are looked at."""

UNSURE = 2
"""How many of the last pictures of a video that is cut off, or still grows, may change."""

STEP = 4
"""One row and column of a picture in so many is looked at."""

DATA_FROM, DATA_BYTES = 1 << 16, 1 << 16
"""
Bytes that tell apart what begins alike: behind what a recorder mends at the end, as a rule. None
are taken of a file that ends before.
"""


@dataclass(frozen=True)
class VideoPrint:
    """
    What a video is known by.

    `digests` are of its first picture, of its first two, and so on; `data` is of its bytes, ''
    where there are too few.
    """

    digests: list[str]
    data: str

    def __str__(self) -> str:
        """Return it as a text for `continues`: how many pictures, their digest, and `data`."""
        return f'{len(self.digests)}:{self.digests[-1] if self.digests else ""}:{self.data}'

    def continues(self, known: str) -> bool:
        """Return whether a print, as a text, is of this video, or of its beginning."""
        count, _, rest = known.partition(':')
        digest, _, data = rest.partition(':')
        return (count.isdecimal() and 0 < int(count) <= len(self.digests)
                and self.digests[int(count) - 1] == digest
                and (not data or data == self.data))


def print_of(video: Path) -> VideoPrint:
    """Return the print of a video; raise VideoError where it cannot be read."""
    try:
        with video.open('rb') as file:
            file.seek(DATA_FROM)
            data = file.read(DATA_BYTES)
    except OSError as error:
        raise VideoError(f'{video}: cannot be read: {error.strerror}') from error
    running = hashlib.sha256()
    digests: list[str] = []
    with open_video(video) as capture:
        while len(digests) < PICTURES + UNSURE:
            there, picture = capture.read()
            if not there:
                break
            running.update(picture[::STEP, ::STEP].tobytes())
            digests.append(running.hexdigest()[:32])
    return VideoPrint(digests[:max(1, len(digests) - UNSURE)],
                      hashlib.sha256(data).hexdigest() if len(data) == DATA_BYTES else '')
