"""Pairs of images and masks, and the pictures that are written of them."""

from collections import Counter, OrderedDict
from pathlib import Path
import threading

from rclpy.logging import get_logger
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image
from univseg_core.domains import Domain
from univseg_core.files.records import parse_json
from univseg_core.pictures.image_messages import decode, MessageError, nanoseconds
from univseg_core.pictures.images import write_png
from univseg_core.pictures.overlay import overlay, with_legend

IMAGES_KEPT, BYTES_KEPT = 300, 256 * 2**20
"""Newest images that wait for their masks: what a slow network leaves behind is much."""

MASKS_KEPT = 60
"""Newest masks that wait for their images."""

LOG_PERIOD = 5.0
"""Seconds between two words on the progress, or on what cannot be used."""


class Matcher:
    """
    Finds the image of each mask, by the header's stamp; both may come first.

    It keeps the newest images and masks only: IMAGES_KEPT of at most BYTES_KEPT, and MASKS_KEPT.
    `unmatched` counts the masks that were given up.
    """

    def __init__(self) -> None:
        self._images: OrderedDict[int, Image | CompressedImage] = OrderedDict()
        self._bytes = 0
        self._masks: OrderedDict[tuple[int, str], Image] = OrderedDict()
        self.unmatched = 0

    def add_image(self, image: Image | CompressedImage) -> dict[str, Image]:
        """Keep an image; return the masks, by domain, that have been waiting for it."""
        stamp = nanoseconds(image.header.stamp)
        if stamp in self._images:
            self._bytes -= len(self._images.pop(stamp).data)
        self._images[stamp] = image
        self._bytes += len(image.data)
        while len(self._images) > 1 and (len(self._images) > IMAGES_KEPT
                                         or self._bytes > BYTES_KEPT):
            self._bytes -= len(self._images.popitem(last=False)[1].data)
        waiting = [key for key in self._masks if key[0] == stamp]
        return {key[1]: self._masks.pop(key) for key in waiting}

    def add_mask(self, domain: str, mask: Image) -> Image | CompressedImage | None:
        """Return a mask's image; where there is none yet, keep the mask."""
        stamp = nanoseconds(mask.header.stamp)
        image = self._images.get(stamp)
        if image is None:
            self._masks[stamp, domain] = mask
            if len(self._masks) > MASKS_KEPT:
                self._masks.popitem(last=False)
                self.unmatched += 1
        return image

    def give_up(self) -> None:
        """Count the masks that still wait."""
        self.unmatched += len(self._masks)
        self._masks.clear()


class PictureWriter:
    """
    A thread that writes the newest pair of image and mask of each domain.

    `done` is the Future of the end: when `count` pairs were written (None: never), or with the
    OSError of a disk that does not take them. `written` counts by domain, `replaced` the pairs
    that gave way to a newer one, `unusable` those that do not fit or cannot be decoded.
    """

    def __init__(self, out: Path, count: int | None):
        self._out = out
        self._count = count
        self._changed = threading.Condition()
        self._pairs: dict[str, tuple[Domain, Image | CompressedImage, Image]] = {}
        self._closed = False
        self._logger = get_logger('mask_viewer.writer')
        self.written: Counter[str] = Counter()
        self.replaced = 0
        self.unusable = 0
        self.done = Future()
        self._thread = threading.Thread(target=self._work, name='writer')
        self._thread.start()

    def put(self, domain: Domain, image: Image | CompressedImage, mask: Image) -> None:
        """Leave a pair to be written, in place of one of its domain that still waits."""
        with self._changed:
            self.replaced += domain.name in self._pairs
            self._pairs[domain.name] = domain, image, mask
            self._changed.notify()

    def close(self) -> None:
        """End the thread, once the pair in its hands is written."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _take(self) -> tuple[Domain, Image | CompressedImage, Image] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._pairs)
            if self._closed:
                return None
            # The domain that has waited longest: a replaced pair keeps its place in a dict.
            return self._pairs.pop(next(iter(self._pairs)))

    def _work(self) -> None:
        try:
            while sum(self.written.values()) != self._count and (pair := self._take()):
                self._write(*pair)
            self.done.set_result(None)
        except Exception as error:
            self.done.set_exception(error)

    def _write(self, domain: Domain, image: Image | CompressedImage, mask: Image) -> None:
        try:
            path = write_pictures(self._out, domain, image, mask)
        except MessageError as error:
            self.unusable += 1
            self._logger.error(f'{domain.name}: {error}', throttle_duration_sec=LOG_PERIOD)
        else:
            self.written[domain.name] += 1
            self._logger.info(f'{sum(self.written.values())} masks written, the last one to '
                              f'{path}', throttle_duration_sec=LOG_PERIOD)


def write_pictures(out: Path, domain: Domain, image: Image | CompressedImage, mask: Image) -> Path:
    """
    Write the pictures of an image and its mask into the domain's folder.

    Return the overlay's path. Raises MessageError where one of them cannot be decoded, or where
    they do not fit, and OSError where the disk does not take them.
    """
    picture = decode(image)
    if mask.encoding != 'mono8':
        raise MessageError(f'a mask of encoding {mask.encoding[:60]!r}; expected mono8')
    indices = decode(mask)[..., 0]
    if indices.shape != picture.shape[:2]:
        raise MessageError(
            f'a mask of {mask.width}x{mask.height} pixels for an image of '
            f'{picture.shape[1]}x{picture.shape[0]}; expected the same size')
    stamp = image.header.stamp
    begin = out / domain.name / f'{stamp.sec}.{stamp.nanosec:09}'
    path = Path(f'{begin}_overlay.png')
    write_png(Path(f'{begin}_image.png'), picture)
    write_png(Path(f'{begin}_index.png'), indices)
    write_png(Path(f'{begin}_mask.png'), domain.colourise(indices))
    write_png(path, with_legend(overlay(picture, indices, domain), domain))
    return path


def domain_of_label_map(label_map: str) -> Domain:
    """
    Return the domain that a label map (JSON, as the segmentation node publishes it) describes.

    Raises ValueError where it describes none.
    """
    try:
        values = parse_json(label_map)
        classes = sorted(values['classes'], key=lambda item: item['index'])
        if [item['index'] for item in classes] != list(range(len(classes))):
            raise ValueError('expected the indices 0, 1, 2, …')
        return Domain.create(values['domain'], [item['name'] for item in classes],
                             [item['colour'] for item in classes])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'not a label map: {label_map[:200]!r}: {error}') from error
