"""Images without labels that a configuration names: folders; frames of bags and videos, cached."""

from collections.abc import Sequence
import logging
from pathlib import Path

from univseg_core.bags.reading import is_bag, METADATA
from univseg_core.datasets.cache import folder_for
from univseg_core.datasets.folders import DataError, list_images, Sample
from univseg_core.datasets.frames import extract_frames
from univseg_core.datasets.manifest import KEPT
from univseg_core.files import write_text
from univseg_core.pictures.picture_files import image_files

COMPLETE = 'complete'

log = logging.getLogger(__name__)


def unlabelled_samples(sources: Sequence[Path], may_be_empty: bool = False) -> list[Sample]:
    """
    Return the images of some folders, bags (BAG or BAG:TOPIC) or videos, without labels.

    The frames of a bag or video are extracted once, into the cache. Raises DataError where there
    are none, unless a folder `may_be_empty`.
    """
    folders = [frames_folder(source) for source in sources]
    return [Sample(image) for folder in folders if not may_be_empty or image_files(folder)
            for image in list_images(folder)]


def frames_folder(source: Path) -> Path:
    """
    Return the folder of the frames of BAG, BAG:TOPIC or a video; any other folder as it is.

    They are extracted into the cache, if they are not there, with the settings that `univseg
    frames` has by default. A damaged bag or video is a warning. A bag that is not finished,
    without metadata.yaml, is looked at anew each time. Raises DataError where there is no frame,
    with the reason.
    """
    bag, colon, topic = str(source).rpartition(':')
    if source.exists() or not colon:
        bag, topic = str(source), ''
    path = Path(bag)
    if not (path.is_file() or is_bag(path)):
        return source
    metadata = path / METADATA
    finished = path if path.is_file() else metadata
    cache = folder_for('frames', finished if finished.is_file() else path)
    folder = cache / (topic.strip('/').replace('/', '-') or 'frames')
    if (folder / COMPLETE).is_file():
        return folder
    report = extract_frames([path], folder, [topic] if topic else [])
    problems = '; '.join(report.problems)
    if not any(counts[KEPT] for counts in report.counts.values()):
        raise DataError(f'{source}: no frame: {problems or report.text() or "it is empty"}')
    if problems:
        log.warning(problems)
    if finished.is_file():
        write_text(folder / COMPLETE, f'{source}\n')
    return folder
