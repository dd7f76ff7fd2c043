"""Cells of the features' maps: of which class each is, and a choice of them for every class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import did_you_mean
from univseg_core.measuring.finished_runs import FinishedRun
from univseg_core.method.pixel_statistics import class_shares
from univseg_core.pictures.images import read_image, resize_label
from univseg_core.progress import progress_bar
from univseg_core.reporting.plots.drawing import FigureError

PURITY = 0.9
"""Share of a cell's pixels that are of one class at least, for the cell to stand for it."""

CLASSES_SHOWN = 6
"""The most frequent classes that are shown of each domain unless others are named."""


@dataclass(frozen=True)
class Cells:
    """
    Cells of one domain's images: n of them.

    `image` (n,) says which image, `row` and `column` (n,) where in its map of features, and
    `label` (n,) of which class; all integers.
    """

    image: np.ndarray
    row: np.ndarray
    column: np.ndarray
    label: np.ndarray


def cell_classes(label: np.ndarray, classes: int, stride: int) -> np.ndarray:
    """
    Return the class (⌈H/stride⌉, ⌈W/stride⌉) uint8 of each cell of a label map (H, W).

    255 where less than 90 % of the cell's pixels are of one class.
    """
    share, index = class_shares(torch.from_numpy(label), classes, stride).max(0)
    return torch.where(share >= PURITY, index, IGNORE_INDEX).to(torch.uint8).numpy()


def choose_cells(maps: Sequence[np.ndarray], classes: Sequence[int], per_class: int,
                 seed: int = 0) -> Cells:
    """
    Choose at most `per_class` cells of each class from the images' maps of classes.

    All cells of a class are equally likely, whatever image they are in. Which are chosen depends
    on the maps, the seed and the class alone, not on the other classes.
    """
    labels = np.concatenate([each.ravel() for each in maps])
    image = np.repeat(np.arange(len(maps)), [each.size for each in maps])
    row, column = np.concatenate([np.indices(each.shape).reshape(2, -1) for each in maps], axis=1)
    of_class = [np.random.default_rng([seed, c]).permutation(np.flatnonzero(labels == c))
                for c in classes]
    chosen = np.sort(np.concatenate([places[:per_class] for places in of_class]))
    return Cells(image[chosen], row[chosen], column[chosen], labels[chosen])


def class_maps(run: FinishedRun, name: str) -> list[np.ndarray]:
    """Return the map of classes of each of a domain's validation images; see `cell_classes`."""
    domain, maps = run.domains[name], []
    for sample in run.samples[name]:
        assert sample.label is not None  # validation images have one
        label = sample.read_label(sample.label, domain)
        size = run.segmenter.network_size(*label.shape)
        maps.append(cell_classes(resize_label(label, *size), len(domain.classes),
                                 run.segmenter.stride))
    return maps


def cell_vectors(run: FinishedRun, name: str, cells: Cells, space: str) -> np.ndarray:
    """Return what a run makes of cells of a domain's validation images, (n, channels) float32."""
    vectors = []
    for i in progress_bar(np.unique(cells.image), f'{run.name}, {name}', leave=False):
        encoded = run.segmenter.encode(read_image(run.samples[name][i].image))
        shown = (run.segmenter.features if space == 'features' else run.segmenter.embed)(encoded)
        here = cells.image == i
        vectors.append(shown[:, cells.row[here], cells.column[here]].T)
    return np.concatenate(vectors)


def frequent_classes(maps: Sequence[np.ndarray], count: int = CLASSES_SHOWN) -> list[int]:
    """Return the classes, at most `count`, that most cells are of, in ascending order."""
    cells = np.bincount(np.concatenate([each.ravel() for each in maps]), minlength=256)
    cells = cells[:IGNORE_INDEX]
    return sorted(c for c in np.argsort(-cells, kind='stable')[:count].tolist() if cells[c])


def named_classes(domains: Mapping[str, Domain], names: Sequence[str]) -> dict[str, list[int]]:
    """
    Return the indices of the classes of some names in each domain that has one of them.

    Raises FigureError for a name that no domain has.
    """
    for name in names:
        if not any(name in domain.classes for domain in domains.values()):
            known = '; '.join(f'{each.name}: {", ".join(each.classes)}'
                              for each in domains.values())
            raise FigureError(f'no domain has a class {name!r}; they have {known}'
                              + did_you_mean(name, [each for domain in domains.values()
                                                    for each in domain.classes]))
    found = {key: sorted(domain.classes.index(name) for name in set(names) & set(domain.classes))
             for key, domain in domains.items()}
    return {key: classes for key, classes in found.items() if classes}
