"""Which kind of source of frames a path is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from univseg_core.bags.reading import Bag, is_bag
from univseg_core.datasets.sources.bag import BagSource
from univseg_core.datasets.sources.folder import FolderSource
from univseg_core.datasets.sources.names import SourceNames
from univseg_core.datasets.sources.source import Source, SourceError
from univseg_core.datasets.sources.video import VideoSource
from univseg_core.files.archives import is_archive
from univseg_core.pictures.picture_files import is_picture
from univseg_core.pictures.video_file import open_video

ROS1_BAG = '.bag'


@contextmanager
def open_source(path: Path, topics: Sequence[str], names: SourceNames) -> Iterator[Source]:
    """
    Give what is at a path: a bag, of which `topics` are wanted, a folder of images, or a video.

    Raises SourceError, BagError or VideoError where it is none of them, and SourceError for a
    folder of images that lies where the frames are written.
    """
    try:
        is_there, is_of_bag, is_folder = path.exists(), is_bag(path), path.is_dir()
    except OSError as error:
        raise SourceError(f'{path}: cannot be read: {error.strerror}') from error
    if not is_there:
        raise SourceError(f'{path}: no such file or folder; expected a ROS 2 bag, a video or a '
                          'folder of images')
    if is_of_bag or (path.suffix.lower() == ROS1_BAG and not is_folder):
        with Bag(path) as bag:
            yield BagSource(bag, topics)
    elif is_folder:
        if path.resolve().is_relative_to(names.folder.resolve()):
            raise SourceError(f'{path}: frames are written into {names.folder}, and so none are '
                              'taken from there; choose another folder for the frames')
        yield FolderSource(path, names)
    elif is_picture(path):
        raise SourceError(f'{path}: a single image; expected its folder, a video or a ROS 2 bag')
    elif is_archive(path):
        raise SourceError(f'{path}: an archive; unpack it, and give the folder, video or ROS 2 '
                          'bag that is in it')
    else:
        with open_video(path) as capture:
            yield VideoSource(path, capture, names)
