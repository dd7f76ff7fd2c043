"""
The evidence by which images of the domains are recognised, made of training images.

Two things are learned of descriptors of images: how those of each domain are spread (a Gaussian),
and what tells domains, and images that are of none, from each other (logistic regression). How
unlike all domains an image is, is judged by both together; and what is usual among training
images, by evidence that was made without them (cross-validation).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
import warnings

import numpy as np
from univseg_core.datasets.folders import spread
from univseg_core.errors import told_with, UnivsegError
from univseg_core.inference.segmenter import on_cpu, Segmenter
from univseg_core.method.unfamiliar_images import distorted, made_up
from univseg_core.models.domain_evidence import (
    at_cells,
    described,
    DomainEvidence,
    HOLDS_FROM,
    HOLDS_TO,
)
from univseg_core.models.heads import LinearMap
from univseg_core.pictures.images import ImageError, read_image, resize_image
from univseg_core.progress import progress_bar

MOST_IMAGES, FEWEST_IMAGES, MOST_IN_ALL = 400, 20, 1200
"""Images of each domain, at most and at least, and of all domains at most."""

SCALES = (HOLDS_FROM, .7, 1.0, 1.4, HOLDS_TO)
"""
Sizes in which images are looked at, as multiples of the model's own: a robot may set another
inference size, and an image's features change with its size.
"""

FOR_COMPONENTS = 100
"""Images, of all domains, that the principal components are made of: more are no better."""

COMPONENTS, LEAST_VARIANCE = 32, .01
"""Components of the features at most, and the least that one varies, as a share of the mean."""

ENOUGH_IMAGES, LEAST_FOUND = 100, .5
"""Images of each domain, and the share of images of none called so, below which doubt is told."""

FOLDS = 5
PENALTY = .1
"""Of the logistic regression: scikit-learn's C, the smaller the simpler."""

LEAST_DEVIATION = .01
"""Of a descriptor's number, when it is standardised: what varies less is lost in float32."""

log = logging.getLogger(__name__)


class EvidenceError(UnivsegError):
    """Images of which no evidence can be made."""


@dataclass(frozen=True)
class Fitted:
    """
    Evidence, and how good it is, judged by cross-validation.

    `images` is how many of each domain it was made of, `right` the share (0..1) of them that were
    taken for their own domain, `found` the share of the images of no domain, of which there are
    `others`, that were called none of these.
    """

    evidence: DomainEvidence
    images: dict[str, int]
    right: dict[str, float]
    others: int
    found: float

    def to_dict(self) -> dict:
        """Return how good it is as plain JSON values."""
        return {'images': self.images, 'right': self.right, 'others': self.others,
                'found': self.found}

    def doubts(self) -> list[str]:
        """Return the reasons to doubt that it is good, a sentence each."""
        doubts = [f'{name}: {count} images to recognise it by; with fewer than {ENOUGH_IMAGES}, '
                  'much of what is of no domain is taken for one'
                  for name, count in self.images.items() if count < ENOUGH_IMAGES]
        if self.found < LEAST_FOUND:
            doubts.append(f'only {100 * self.found:.1f} % of made-up images were called none of '
                          'these: a place that is none of the domains may be taken for one')
        return doubts

    def text(self) -> str:
        """Return how good it is in a sentence."""
        parts = [f'{100 * self.right[name]:.1f} % of {count} images of {name}'
                 for name, count in self.images.items()]
        return (f'recognised {", ".join(parts)}; {100 * self.found:.1f} % of {self.others} '
                'made-up images were called none of these (cross-validated)')


def make_evidence(segmenter: Segmenter, images: Mapping[str, Sequence[Path]], *, seed: int = 0,
                  progress: bool = True) -> Fitted:
    """
    Return evidence of the segmenter's domains, made of image files of each of them.

    `images` has them by domain; at most MOST_IMAGES of each are looked at, evenly, and MOST_IN_ALL
    of all, each in one of the SCALES. One that cannot be read is told and left out, and doubts
    about the evidence are told. `seed` decides the images that are of no domain, and in which
    scale each is looked at.

    Raises EvidenceError for a domain of which there are fewer than FEWEST_IMAGES, or whose images
    are all alike, and for features that are; UnivsegError, with its path, for an image that the
    network does not take.
    """
    most = max(FEWEST_IMAGES, min(MOST_IMAGES, MOST_IN_ALL // len(segmenter.domains)))
    chosen = {name: spread(list(dict.fromkeys(images.get(name, ()))), most)
              for name in segmenter.domains}
    _check_counts({name: len(paths) for name, paths in chosen.items()})
    generator = np.random.default_rng(seed)
    looks = {name: _looks(paths, segmenter, generator) for name, paths in chosen.items()}
    first = spread([look for each in looks.values() for look in each], FOR_COMPONENTS)
    nothing = made_up(sum(map(len, chosen.values())) // (2 * len(chosen)))
    passes = len(first) + len(nothing) + sum(
        len(each) + 4 * len(_to_distort(each)) for each in looks.values())
    broken: set[Path] = set()
    with progress_bar(total=passes, title='recognise', leave=False, disable=not progress) as bar:
        def cells(image: np.ndarray) -> np.ndarray:
            bar.update()
            return on_cpu(at_cells(segmenter.encode(image, max(image.shape[:2])).features))

        def cells_of(looks: Sequence[Look]) -> Iterator[tuple[Look, np.ndarray]]:
            for look in looks:
                try:
                    image = look.image(segmenter)
                except ImageError as error:
                    if look.path not in broken:
                        log.warning('%s; left out of the evidence', error)
                    broken.add(look.path)
                    continue
                with told_with(look.path):
                    found = cells(image)
                yield look, found

        # No image's cells are kept: with wide features, those of all would take a gigabyte.
        projection = principal_components(each for _, each in cells_of(first))
        of_domains = {name: {look: described(each, projection) for look, each in cells_of(each_of)}
                      for name, each_of in looks.items()}
        _check_counts({name: len(each) for name, each in of_domains.items()})
        sizes, of_none = [], []
        for group in of_domains.values():
            for look in _to_distort(list(group)):
                image = look.image(segmenter)
                sizes.append(image.shape[:2])
                of_none += [described(cells(each), projection)
                            for each in distorted(image, generator)]
        for number, make in enumerate(nothing):
            height, width = sizes[number * len(sizes) // len(nothing)]
            of_none.append(described(cells(make(height, width, generator)), projection))
    fitted = fit_evidence({name: np.stack(list(group.values()))
                           for name, group in of_domains.items()}, np.stack(of_none), projection)
    for doubt in fitted.doubts():
        log.warning('%s', doubt)
    return fitted


@dataclass(frozen=True)
class Look:
    """An image file, and how large it is looked at, in units of the model's own size."""

    path: Path
    scale: float

    def image(self, segmenter: Segmenter) -> np.ndarray:
        """Return the image (H, W, 3) uint8 RGB in the size in which it is looked at."""
        image = read_image(self.path)
        height, width = image.shape[:2]
        size = round(self.scale * (segmenter.inference_size or max(height, width)))
        return resize_image(image, *segmenter.network_size(height, width, max(1, size)))


def _looks(paths: Sequence[Path], segmenter: Segmenter, generator: np.random.Generator
           ) -> list[Look]:
    """Return images with scales by chance, equally many of each scale."""
    scales = SCALES if segmenter.only_size is None else (1.0,)
    return [Look(path, scales[i % len(scales)]) for path, i in zip(
        paths, generator.permutation(len(paths)).tolist(), strict=True)]


def _to_distort(looks: Sequence[Look]) -> list[Look]:
    """Return those of a domain's images that are distorted into images of none."""
    return spread(looks, max(10, len(looks) // 10))


def _check_counts(counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        if count < FEWEST_IMAGES:
            raise EvidenceError(f'{name}: {count} images to recognise it by; expected '
                                f'{FEWEST_IMAGES} or more of each domain, labelled or not')


def principal_components(cells: Iterable[np.ndarray]) -> LinearMap:
    """
    Return the map to the principal components of cells (…, C), each of a deviation of 1.

    Of the COMPONENTS that vary most; of fewer, where the others vary by next to nothing, which
    another precision than float32 would change.

    Raises EvidenceError where none varies, or one is not finite.
    """
    total, products, count = np.zeros(1), np.zeros((1, 1)), 0
    for each in cells:
        flat = each.reshape(-1, each.shape[-1]).astype(np.float64)
        total, products, count = total + flat.sum(0), products + flat.T @ flat, count + len(flat)
    if not np.isfinite(products).all():
        raise EvidenceError('the features of some images are not finite')
    if not count:
        raise EvidenceError('none of the images can be read')
    mean = total / count
    variances, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    least = np.sort(variances)[-COMPONENTS:][0]
    kept = np.flatnonzero(variances >= max(least, LEAST_VARIANCE * variances.mean(), 1e-12))[::-1]
    if not len(kept):
        raise EvidenceError('the features are the same in all images')
    weight = (vectors[:, kept] / np.sqrt(variances[kept])).T
    return LinearMap(weight.astype(np.float32), (-weight @ mean).astype(np.float32))


def fit_evidence(of_domains: Mapping[str, np.ndarray], of_none: np.ndarray,
                 projection: LinearMap) -> Fitted:
    """
    Return evidence of the descriptors (n, D) of each domain's images, and of images of none.

    Raises EvidenceError where the images of a domain are all alike.
    """
    known = np.concatenate(list(of_domains.values())).astype(np.float64)
    mean, scale = known.mean(0), np.maximum(known.std(0), LEAST_DEVIATION)
    parts = [(each - mean) / scale for each in of_domains.values()]
    none = (of_none - mean) / scale
    folds = [np.arange(len(each)) % FOLDS for each in [*parts, none]]
    try:
        judged = [_judged(*_models([each[fold != held] for each, fold in zip(
            [*parts, none], folds, strict=True)]), [each[fold == held] for each, fold in zip(
                [*parts, none], folds, strict=True)]) for held in range(FOLDS)]
        gaussians, logits = _models([*parts, none])
    except np.linalg.LinAlgError as error:
        raise EvidenceError(f'images of {" or ".join(of_domains)} are all alike') from error
    # From here on, a group has all its images again; the last group is of none of the domains.
    far, votes = ([np.concatenate(each) for each in zip(*of_folds, strict=True)]
                  for of_folds in zip(*judged, strict=True))
    usual = np.array([np.quantile(each[:, i], .95) for i, each in enumerate(far[:-1])])
    distances = [(each / usual).min(1) for each in far]
    margins = [each[:, -1] - each[:, :-1].max(1) for each in votes]
    (distance, of_distance), (margin, of_margin) = (
        (all_known.mean(), all_known.std() + 1e-9) for all_known in (
            np.concatenate(each[:-1]) for each in (distances, margins)))
    scores = [(a - distance) / of_distance + (b - margin) / of_margin
              for a, b in zip(distances, margins, strict=True)]
    level = max(np.quantile(np.concatenate(scores[:-1]), .99), 1e-9)
    unfamiliarity = np.array([1 / of_distance, 1 / of_margin,
                              -distance / of_distance - margin / of_margin]) / level
    # The descriptor's standardisation, and each domain's usual distance, become part of the maps.
    evidence = DomainEvidence(
        tuple(of_domains), projection,
        _standardised(np.stack([root / length for (root, _), length in zip(
            gaussians, usual, strict=True)]),
            np.stack([-root @ centre / length for (root, centre), length in zip(
                gaussians, usual, strict=True)]), mean, scale),
        _standardised(*logits, mean, scale), unfamiliarity.astype(np.float32))
    return Fitted(
        evidence, {name: len(each) for name, each in of_domains.items()},
        {name: float((each[:, :-1].argmax(1) == i).mean())
         for i, (name, each) in enumerate(zip(of_domains, votes[:-1], strict=True))},
        len(none), float((scores[-1] > level).mean()))


Gaussian = tuple[np.ndarray, np.ndarray]
"""A root (D, D) of the precision, and the mean (D,): |root · (x − mean)| is the distance of x."""


def _models(groups: Sequence[np.ndarray]
            ) -> tuple[list[Gaussian], tuple[np.ndarray, np.ndarray]]:
    """Return the Gaussians of all groups but the last, and weight and bias of all their logits."""
    from sklearn.covariance import LedoitWolf  # as in all of univseg, where it is needed
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    gaussians = []
    for each in groups[:-1]:
        found = LedoitWolf().fit(each)
        gaussians.append((np.linalg.cholesky(found.precision_).T, found.location_))
    labels = np.repeat(np.arange(len(groups)), [len(each) for each in groups])
    with warnings.catch_warnings():  # what has nearly converged is as good
        warnings.simplefilter('ignore', ConvergenceWarning)
        found = LogisticRegression(C=PENALTY, max_iter=1000, class_weight='balanced').fit(
            np.concatenate(groups), labels)
    weight, bias = found.coef_, found.intercept_
    if len(groups) == 2:  # of two, it has the difference alone
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return gaussians, (weight, bias)


def _judged(gaussians: Sequence[Gaussian], logits: tuple[np.ndarray, np.ndarray],
            groups: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return, of each group of descriptors (n, D), distances (n, K) and logits (n, K + 1)."""
    far = [np.stack([np.linalg.norm((each - centre) @ root.T, axis=1)
                     for root, centre in gaussians], 1) for each in groups]
    return far, [each @ logits[0].T + logits[1] for each in groups]


def _standardised(weight: np.ndarray, bias: np.ndarray, mean: np.ndarray,
                  scale: np.ndarray) -> LinearMap:
    """Return a linear map of standardised descriptors as one of descriptors, float32."""
    weight = weight / scale
    return LinearMap(weight.astype(np.float32), (bias - weight @ mean).astype(np.float32))
