"""`univseg frames`: training frames out of bags, videos and folders."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from univseg_core.commands.options import Command, model_file, number, whole
from univseg_core.commands.output import report
from univseg_core.errors import UnivsegError

if TYPE_CHECKING:
    import numpy as np
    from univseg_core.datasets.frame_files import FolderOf

SECONDS = number(1e9, 'seconds, 0 or more')

UNKNOWN = 'unknown'
"""The folder of frames that are of none of a model's domains."""

EXAMPLES = """examples:
  univseg frames drive_1 drive_2 --topic /camera/image_raw --out frames
  univseg frames drive.mcap --out frames --min-interval 1 --size 1280
  univseg frames drive --topic /front/image/compressed --topic /rear/image/compressed --out frames
  univseg frames drive --out frames --split-by-domain yard.univseg   frames/DOMAIN, frames/unknown
  univseg frames drive --out stills --start 60 --end 90 --duplicates keep --format png
  univseg frames drive.mp4 photos/ drive_1 --out frames --every 5        videos and folders, too

Topics may hold images, or packets of a video (H.264, H.265, AV1, VP9) where PyAV is installed
(pip install 'av>=14'). Images of a folder have no times: they are taken in the order of their
names, and --min-interval leaves out none.

A bag is read within limits of memory and disk; the environment variables UNIVSEG_MAX_MESSAGE
(bytes of a message or chunk), UNIVSEG_MAX_UNPACKED (of a file that is unpacked) and
UNIVSEG_MAX_PIXELS set others (docs/limits.md).
"""


def add_to(command: Command) -> None:
    """Add the command to the command line's grammar."""
    sub = command('frames', _frames, 'write the images of ROS 2 bags, videos and folders as '
                  'frames to learn from, without ROS; the same command goes on where it was '
                  'interrupted', EXAMPLES)
    sub.add_argument('sources', nargs='+', type=Path, metavar='SOURCE',
                     help='a bag of sqlite3 or MCAP files (the folder), or one .mcap or .db3 '
                          'file; a video; a folder of images')
    sub.add_argument('--out', type=Path, required=True, metavar='DIR',
                     help='folder for the frames (TOPIC-STAMP.jpg, VIDEO-STAMP.jpg or '
                          'FOLDER-IMAGE.jpg) and manifest.csv')
    sub.add_argument('--topic', action='append', default=[], metavar='NAME', dest='topics',
                     help='a topic of a bag: of sensor_msgs Image or CompressedImage, or packets '
                          'of a video (CompressedVideo, FFMPEGPacket); may be repeated '
                          '(default: the only one of images)')
    sub.add_argument('--every', type=whole(1), default=1, metavar='N',
                     help='take every N-th image of a topic, video or folder (default: 1)')
    sub.add_argument('--min-interval', type=SECONDS, default=0.0, metavar='S',
                     help='seconds between two frames of a topic or video, at least (default: 0)')
    sub.add_argument('--start', type=SECONDS, default=0.0, metavar='S',
                     help="where to begin, in seconds from the bag's first message or the video's "
                          'beginning (default: 0)')
    sub.add_argument('--end', type=SECONDS, metavar='S', help='where to end (default: nowhere)')
    sub.add_argument('--duplicates', type=duplicates, default=4, metavar='BITS',
                     help='leave out a frame whose dHash differs from that of the last one kept '
                          'in so many of its 64 bits, or fewer; keep: leave out none (default: 4)')
    sub.add_argument('--size', type=whole(1), metavar='PIXELS',
                     help='longest side to which larger images are shrunk (default: as they are)')
    sub.add_argument('--format', choices=('jpg', 'png'), default='jpg',
                     help='format of the frames; a recorded JPEG or PNG that is neither shrunk '
                          'nor converted is kept byte by byte (default: jpg)')
    sub.add_argument('--split-by-domain', type=Path, metavar='MODEL',
                     help='write each frame into a folder DIR/DOMAIN of the domain that a model '
                          'file, or demo, recognises it as, or DIR/unknown for what is of none; '
                          'the manifest has the folders in its column file')
    sub.add_argument('--quality', type=whole(1, 100), default=95, metavar='Q',
                     help='quality of the JPEGs that are encoded here, 1 to 100 (default: 95)')


def _frames(options: argparse.Namespace) -> None:
    from univseg_core.datasets.frames import extract_frames, ExtractionSettings, FramesError

    split, folder_of = {}, None
    if options.split_by_domain:
        from univseg_core.files import sha256_of
        model = model_file(options.split_by_domain)
        folder_of = _recogniser(model)
        split = {'split_by': sha256_of(model)}
    found = extract_frames(options.sources, options.out, options.topics, ExtractionSettings(
        every=options.every, min_interval=options.min_interval, start=options.start,
        end=options.end, duplicate_bits=options.duplicates, size=options.size,
        codec=options.format, quality=options.quality, **split), folder_of=folder_of)
    known = f', {found.known} of these images known from before' if found.known else ''
    where = f'\nframes and manifest.csv in {options.out}{known}' if options.out.exists() else ''
    report(options, {'folder': str(options.out), **found.to_dict()},
           f'{found.text()}{where}' if found.counts or found.notes else None)
    if found.problems:
        raise FramesError('\n  '.join(found.problems))


def _recogniser(model: Path) -> 'FolderOf':
    """Return what names the domain of an image (H, W, 3) uint8 RGB, or unknown."""
    from univseg_core.inference.segmenter import Segmenter

    segmenter = Segmenter.load(model)
    segmenter.check_evidence()
    if UNKNOWN in segmenter.domains:
        raise UnivsegError(f'{model}: has a domain {UNKNOWN}, whose frames would be among those '
                           'of none')

    def folder_of(image: 'np.ndarray') -> str:
        found = segmenter.recognise(segmenter.encode(image))
        return found.domain if found.is_familiar else UNKNOWN
    return folder_of


def duplicates(text: str) -> int | None:
    """Return a number of bits, 0 to 63; None for 'keep'."""
    return None if text == 'keep' else whole(0, 63)(text)
