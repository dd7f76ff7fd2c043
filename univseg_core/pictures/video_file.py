"""Video files, as OpenCV opens them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
from univseg_core.errors import in_one_line, UnivsegError
from univseg_core.files.limits import PIXELS

VIDEO_RATE = 25.0
"""Images a second of a video that does not say them, or not credibly."""

HIGHEST_VIDEO_RATE = 1000.0


class VideoError(UnivsegError):
    """A video that is not there, cannot be decoded, or is too large."""


@contextmanager
def open_video(video: Path) -> Iterator[cv2.VideoCapture]:
    """
    Give what reads the pictures of a video file, upright.

    Raises VideoError, which names the file, where OpenCV cannot, and where the video says that its
    pictures are of more than limits.PIXELS.
    """
    if video.is_fifo():  # which would be waited for
        raise VideoError(f'{video}: cannot be read: expected a file')
    try:
        # FFmpeg takes what stands before the colon of a relative name for a protocol.
        name = str(video.absolute())
        name.encode()
    except UnicodeEncodeError:  # with which OpenCV crashes
        raise VideoError(f'{in_one_line(video)}: its name is no text in UTF-8; rename it, or the '
                         'folder that is not') from None
    capture = cv2.VideoCapture(name)
    try:
        # FFmpeg renders a text file as pictures of its text.
        fourcc = int(capture.get(cv2.CAP_PROP_FOURCC))
        if not capture.isOpened() or fourcc == cv2.VideoWriter.fourcc(*'ansi'):
            raise VideoError(
                f'{video}: not a readable video; expected a folder of images, a video that OpenCV '
                'can decode, or a ROS 2 bag')
        pixels = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)
                       * capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if pixels > PIXELS():
            raise VideoError(f'{video}: pictures of {pixels} pixels, more than {PIXELS}')
        yield capture
    finally:
        capture.release()


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Return the images a second that a video says, or VIDEO_RATE in place of what it cannot."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate <= HIGHEST_VIDEO_RATE else VIDEO_RATE

