"""The images by which an exported model is calibrated, and compared with its original."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
import logging
from pathlib import Path

import numpy as np
from univseg_core.batches.dataset import load_data, load_validation
from univseg_core.batches.splits import splits_beside
from univseg_core.datasets.folders import DataError, Sample, spread
from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.exporting.network import ExportError
from univseg_core.labelling.frame_folder import frames_of
from univseg_core.pictures.images import ImageError, read_image, resize_image
from univseg_core.settings.config import load_config

log = logging.getLogger(__name__)


def given(paths: Sequence[Path]) -> list[Sample]:
    """Return the images that paths name: files, or folders of them; raise DataError if none."""
    for path in paths:
        if not path.exists():
            raise DataError(f'{path}: no such image or folder of images')
    return [Sample(image) for path in paths
            for image in (frames_of(path) if path.is_dir() else [path])]


def in_turn(groups: Iterable[Sequence[Sample]], count: int, most: int) -> list[Sample]:
    """Return at most `most` samples of `count` groups: evenly from each, and from all in turn."""
    share = -(-most // max(count, 1))
    of_all = (spread(group, share) for group in groups)
    return [sample for sample in chain.from_iterable(zip_longest(*of_all)) if sample][:most]


def to_compare(paths: Sequence[Path], config: str | None, domains: Mapping[str, Domain],
               most: int) -> dict[str, list[Sample]]:
    """
    Return the samples of each domain, at most `most`, on which models are compared.

    Images of `paths` are for all domains, and have no labels; without paths, they are the
    validation images of a configuration. Raises ExportError where there are none.
    """
    if paths:
        samples = spread(given(paths), most)
        return dict.fromkeys(domains, samples)
    if config is None:
        raise ExportError('an export is compared with its original before it is written: name '
                          'images for it with --frames, or the configuration that names the '
                          'validation images with --config')
    try:
        found = load_validation(load_config(config, files_needed=False), domains,
                                splits_beside(config))
    except (UnivsegError, OSError) as error:
        raise ExportError(f'no validation images to compare with: {error}; name others with '
                          '--frames or --config') from error
    return {name: spread(samples, most) for name, samples in found.items()}


def to_calibrate(paths: Sequence[Path], config: str | None, most: int) -> list[Sample]:
    """
    Return at most `most` images by which an int8 network finds its ranges.

    They are those of `paths`, from all folders evenly and in turn; without paths, unlabelled (or
    else labelled) training images of a configuration, from all domains in the same way. Raises
    ExportError where there are none.
    """
    if paths:
        # Folders are places; single images, all together, are another one.
        groups = [given([path]) for path in paths if path.is_dir()]
        if single := given([path for path in paths if not path.is_dir()]):
            groups.append(single)
        return in_turn(groups, len(groups), most)
    if config is None:
        raise ExportError('int8 finds its ranges by images: name unlabelled ones of all domains '
                          'with --calibrate, or the configuration that names them with --config')
    try:
        data = load_data(load_config(config, files_needed=False), splits_beside(config))
    except (UnivsegError, OSError) as error:
        raise ExportError(f'no images to calibrate with: {error}; name others with --calibrate '
                          'or --config') from error
    return in_turn((each.unlabelled or each.labelled for each in data.values()), len(data), most)


def readable(samples: Sequence[Sample], network_size: Callable[[int, int], tuple[int, int]]
             ) -> Iterator[np.ndarray]:
    """
    Yield each image (H, W, 3) uint8 RGB as the network sees it.

    `network_size` gives the size for an image's height and width. An image that cannot be read is
    told and left out.
    """
    for sample in samples:
        try:
            image = read_image(sample.image)
        except ImageError as error:
            log.warning('%s; left out', error)
            continue
        yield np.ascontiguousarray(resize_image(image, *network_size(*image.shape[:2])))
