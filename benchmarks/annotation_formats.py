"""
Measure what the formats of annotation tools make of label maps: written, read and painted again.

    python benchmarks/annotation_formats.py camvid/val/label nyuv2/val/label13

For each folder of index PNGs (255: void) and each format that is written and read, a row of a
Markdown table: the mean and the largest share of an image's pixels that come back as another
class, the bytes of an image, and the time that writing and reading take.

Where Datumaro is installed (pip install datumaro; it needs none of PyTorch), --datumaro reads
what is written with it instead, as CVAT does.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
import tempfile
import time

import numpy as np
from univseg_core.annotations.formats import FORMATS
from univseg_core.annotations.painting import painted
from univseg_core.annotations.regions import AnnotationError
from univseg_core.datasets.folders import some_images
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.pictures.images import read_codes, write_png

DOMAIN = Domain.create('any', [f'class {index}' for index in range(40)])
INDICES = {name: index for index, name in enumerate(DOMAIN.classes)}

Named = tuple[str, np.ndarray]

Read = Callable[[str, Path, tuple[int, int]], Iterator[Named]]


def by_this_package(name: str, folder: Path, size: tuple[int, int]) -> Iterator[Named]:
    """Yield each image as this package reads it."""
    read = FORMATS[name].read
    assert read is not None
    for image in read(folder):
        indices = dict.fromkeys(image.void, IGNORE_INDEX) | INDICES
        yield Path(image.image).stem, painted(image, *size, indices)


def by_datumaro(name: str, folder: Path, size: tuple[int, int]) -> Iterator[Named]:
    """Yield each image as Datumaro reads it."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset
    from datumaro.util.mask_tools import rles_to_mask

    dataset = Dataset.import_from(str(folder), {'coco': 'coco_instances'}.get(name, name))
    labels = dataset.categories()[AnnotationType.label]
    for item in dataset:
        classes = np.full(size, IGNORE_INDEX, np.uint8)
        for each in item.annotations:
            if each.type == AnnotationType.polygon:
                covered = rles_to_mask([each.points], *size[::-1])
            elif each.type == AnnotationType.mask:
                covered = each.image
            else:
                continue
            classes[np.asarray(covered, bool)] = INDICES[labels[each.label].name]
        yield item.id, classes


def row(name: str, masks: dict[str, np.ndarray], read: Read) -> str:
    """Write masks, all of one size, in a format, read them, and return what is to be told."""
    write = FORMATS[name].write
    assert write is not None
    size = next(iter(masks.values())).shape
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        started = time.process_time()
        writer = write(folder, DOMAIN)
        for stem, mask in masks.items():
            writer.add(Path(f'{stem}.png'), mask, 1)
        writer.finish()
        took = [time.process_time() - started]
        held = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
        for stem, mask in masks.items():  # which Datumaro wants to see
            write_png(folder / 'images' / f'{stem}.png', mask)
        started = time.process_time()
        shares = [float((classes != masks[stem]).mean())
                  for stem, classes in read(name.removesuffix('-polygons'), folder, size)]
        took.append(time.process_time() - started)
    assert len(shares) == len(masks)
    count = len(masks)
    return (f'{100 * np.mean(shares):.2f} | {100 * max(shares):.2f} | {held / count / 1000:.1f} | '
            + ' | '.join(f'{1000 * seconds / count:.0f}' for seconds in took))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', type=Path, help='folders of index PNGs')
    parser.add_argument('--images', type=int, default=50, help='of each, evenly chosen, at most')
    parser.add_argument('--formats', nargs='+', metavar='NAME', default=list(FORMATS),
                        help='(default: all that are written and read)')
    parser.add_argument('--datumaro', action='store_true', help='read with Datumaro (COCO, CVAT)')
    options = parser.parse_args()
    print('| labels | format | differ, mean % | largest % | kB an image | write, ms | read, ms |')
    print('|---|---|--:|--:|--:|--:|--:|')
    for folder in options.folders:
        files = some_images(folder)
        files = files[::-(-len(files) // options.images)]
        masks = {path.stem: read_codes(path) for path in files}
        for name in options.formats:
            base = name.removesuffix('-polygons')
            if FORMATS[name].write and FORMATS[base].read and (
                    base in ('coco', 'cvat') or not options.datumaro):
                read = by_datumaro if options.datumaro else by_this_package
                try:
                    text = row(name, masks, read)
                except AnnotationError as error:  # as of predictions, which nobody accepted yet
                    text = f'not read: {error}'
                print(f'| {folder} | {name} | {text} |', flush=True)


if __name__ == '__main__':
    main()
