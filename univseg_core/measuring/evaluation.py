"""Confusion matrix → IoU of each class → mIoU of each domain → their sum."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import Literal

import numpy as np
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.errors import told_with
from univseg_core.files import write_text
from univseg_core.files.records import read_json
from univseg_core.inference.cell_entropy import ENTROPY_BINS, entropy_counts
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.recognition import Recognised, recognition_table
from univseg_core.pictures.images import fit_size, resize_image, resize_label
from univseg_core.progress import progress_bar

Shown = Callable[[str, np.ndarray, np.ndarray, np.ndarray], None]
"""Takes a domain's name, an image (H, W, 3), its truth and mask (H, W), all uint8."""

PAPER_IMAGES = 100
"""Validation images that the paper's own code measures with."""


@dataclass(frozen=True)
class DomainResult:
    """
    How well one domain's validation set is segmented.

    `confusion` (C, C + 1) int64 counts pixels, rows truth, columns prediction; the last column
    counts those of no class of this domain (unknown, or nearer to another domain's labels).
    `by_label_embeddings` is the result of labelling each pixel by the nearest of the domain's
    label embeddings instead of by its head, `by_all_label_embeddings` by the nearest of all
    domains'; None where they were not asked for. `absent` is the IoU of a class that no truth and
    no mask has. `before` is the result of the model that a training started from; None where it
    does not have this domain, or there is none. `recognised` is which domains the model took the
    images for; None where it has no evidence of its domains. `entropy` counts the cells of its
    logits by their entropy, as `entropy_counts` does; None where that was not asked for.
    """

    domain: Domain
    confusion: np.ndarray
    by_label_embeddings: 'DomainResult | None' = None
    by_all_label_embeddings: 'DomainResult | None' = None
    absent: float = float('nan')
    before: 'DomainResult | None' = None
    recognised: Recognised | None = None
    entropy: np.ndarray | None = None

    @property
    def iou(self) -> np.ndarray:
        """Return each class's IoU, (C,) in 0..1 (Eq 6)."""
        hits = np.diag(self.confusion).astype(float)
        union = self.confusion.sum(0)[:len(hits)] + self.confusion.sum(1) - hits
        return np.divide(hits, union, out=np.full(len(hits), self.absent), where=union > 0)

    @property
    def miou(self) -> float:
        """Return the mean IoU, in 0..1, over the classes that occur; NaN if none does."""
        occurring = self.iou[~np.isnan(self.iou)]
        return float(occurring.mean()) if len(occurring) else float('nan')

    @property
    def change(self) -> float | None:
        """Return what the mIoU has gained since `before`, in -1..1; None without it."""
        return self.miou - self.before.miou if self.before else None

    def to_dict(self) -> dict:
        """Return mIoU and class-wise IoU as plain JSON values, None where absent."""
        values = {'miou': _json_number(self.miou),
                  'iou': {name: _json_number(value)
                          for name, value in zip(self.domain.classes, self.iou, strict=True)}}
        # Files have called label embeddings prototypes from the beginning.
        further = {'prototypes': self.by_label_embeddings,
                   'prototypes_of_all': self.by_all_label_embeddings, 'before': self.before}
        values |= {key: result.to_dict() for key, result in further.items() if result}
        if self.recognised:
            values['recognition'] = self.recognised.to_dict(self.domain.name)
        change = self.change
        return values | ({} if change is None else {'change': _json_number(change)})


def count_pairs(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return how many pixels have each pair of values (truth, mask), (256, 256) int64."""
    pairs = truth.astype(np.uint16) << 8 | mask
    return np.bincount(pairs.ravel(), minlength=256 * 256).reshape(256, 256)


class ConfusionCount:
    """
    Counts pixels of (mask, truth) pairs of one domain in one confusion matrix.

    `absent` is the IoU that its result has for classes that do not occur.
    """

    def __init__(self, domain: Domain, absent: float = np.nan):
        self._domain, self._absent = domain, absent
        self._counts = np.zeros((256, 256), np.int64)  # truth, mask

    def add(self, mask: np.ndarray, truth: np.ndarray) -> None:
        """Add a mask and its truth, each (H, W) uint8; those whose truth is 255 do not count."""
        self._counts += count_pairs(truth, mask)

    def result(self) -> DomainResult:
        """Return the result of all pairs that were added."""
        classes = len(self._domain.classes)
        confusion = self._counts[:classes, :classes + 1].copy()
        confusion[:, classes] = self._counts[:classes, classes:].sum(1)
        return DomainResult(self._domain, confusion, absent=self._absent)


def measure(domain: Domain, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> DomainResult:
    """
    Return the result of (mask, truth) pairs, each (H, W) uint8 of equal sizes.

    One confusion matrix over all images; pixels whose truth is 255 do not count.
    """
    count = ConfusionCount(domain)
    for mask, truth in pairs:
        count.add(mask, truth)
    return count.result()


def evaluate(segmenter: Segmenter, samples: Mapping[str, Sequence[Sample]], *,
             protocol: Literal['standard', 'paper'] = 'standard', label_embeddings: bool = False,
             entropy: bool = False, progress: bool = True,
             shown: Shown | None = None) -> dict[str, DomainResult]:
    """
    Measure each domain's head on its labelled samples, at the label maps' own size.

    `samples` maps names of the segmenter's domains to image and label files. By the protocol of
    the paper's own code, the first 100 images count, both they and their label maps are scaled to
    the size that the model learned from, and absent classes count as 0. With `label_embeddings`,
    these are measured, too, in the same encoder pass. Where the model has evidence of its domains,
    so is which domains the images are taken for. With `entropy`, the cells of the head's logits
    are counted by theirs. `shown` is called with each domain's name and each image, its truth and
    mask.

    Raises UnivsegError where `label_embeddings` are asked for and the model has none.
    """
    results = {}
    # Unless there are more labels than a mask can hold.
    of_all = label_embeddings and sum(
        len(domain.classes) for domain in segmenter.domains.values()) <= IGNORE_INDEX
    absent = 0.0 if protocol == 'paper' else np.nan
    for name, files in samples.items():
        domain = segmenter.domains[name]
        if protocol == 'paper':
            files = files[:PAPER_IMAGES]
        heads, nearest, nearest_of_all = (ConfusionCount(domain, absent) for _ in range(3))
        recognitions = []
        entropies = np.zeros(ENTROPY_BINS, np.int64)
        images = progress_bar(_one_ahead(files, domain), f'evaluate {name}', len(files),
                              leave=False, disable=not progress)
        for sample, (image, truth) in zip(files, images, strict=True):
            if protocol == 'paper':
                height, width = truth.shape
                size = fit_size(height, width, segmenter.card.image_size)
                image, truth = resize_image(image, *size), resize_label(truth, *size)
            with told_with(sample.image):
                encoded = segmenter.encode(image)
            mask = segmenter.head_mask(encoded, name)
            heads.add(mask, truth)
            if entropy:
                entropies += entropy_counts(segmenter.logits(encoded, name))
            if segmenter.evidence is not None:
                recognitions.append(segmenter.recognise(encoded))
            if shown is not None:
                shown(name, image, truth, mask)
            if label_embeddings:
                nearest.add(segmenter.label_embedding_mask(encoded, name), truth)
            if of_all:
                nearest_of_all.add(segmenter.label_embedding_mask(
                    encoded, name, list(segmenter.domains)), truth)
        results[name] = replace(
            heads.result(),
            by_label_embeddings=nearest.result() if label_embeddings else None,
            by_all_label_embeddings=nearest_of_all.result() if of_all else None,
            recognised=Recognised.of(recognitions) if recognitions else None,
            entropy=entropies if entropy else None)
    return results


def _one_ahead(files: Sequence[Sample],
               domain: Domain) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each sample's image and truth, in order, while a thread reads the next one."""
    with ThreadPoolExecutor(1) as pool:
        futures = (pool.submit(read_sample, sample, domain) for sample in files)
        coming = next(futures, None)
        while coming is not None:
            now, coming = coming, next(futures, None)
            yield now.result()


def table(rows: Mapping[str, Sequence[float]], domains: Sequence[str]) -> str:
    """Return a Markdown table of mIoUs (0..1), a row for each title, a column for each domain."""
    return '\n'.join([
        f'| mIoU % | {" | ".join(domains)} |', '|---|' + '--:|' * len(domains),
        *(f'| {title} | {" | ".join(f"{100 * value:.1f}" for value in values)} |'
          for title, values in rows.items())])


def as_dict(results: Mapping[str, DomainResult]) -> dict[str, dict]:
    """Return each domain's mIoU and class-wise IoU as plain JSON values."""
    return {name: result.to_dict() for name, result in results.items()}


def write_evaluation(path: Path, results: Mapping[str, DomainResult]) -> None:
    """Write each domain's mIoU and class-wise IoU as JSON."""
    write_text(path, json.dumps(as_dict(results), indent=1))


def write_confusions(path: Path, results: Mapping[str, DomainResult]) -> None:
    """Write each domain's confusion matrix as JSON."""
    write_text(path, json.dumps({name: result.confusion.tolist()
                                 for name, result in results.items()}))


def read_confusions(path: Path, domains: Mapping[str, Domain]) -> dict[str, DomainResult]:
    """
    Return the results whose confusion matrices `write_confusions` has written.

    Raises AttributeError, KeyError, TypeError or ValueError where the file is damaged, or of other
    domains or classes.
    """
    results = {}
    for name, rows in read_json(path).items():
        classes = len(domains[name].classes)
        matrix = np.array(rows, np.int64).reshape(classes, classes + 1)
        results[name] = DomainResult(domains[name], matrix)
    return results


def report(results: Mapping[str, DomainResult]) -> str:
    """
    Return a Markdown table of IoU by class, of each domain's mIoU, and their sum.

    Beside them stands what they were before, and the change in percentage points, where known;
    behind them, which domains the images were taken for, where the model can tell.
    """
    lines = []
    for name, result in results.items():
        columns = _columns(result)
        width = max(len(c) for c in (*result.domain.classes, 'class'))
        lines += [f'### {name}', '', f'| {"class":{width}} | {" | ".join(columns)} |',
                  f'|{"-" * (width + 2)}|{"--:|" * len(columns)}']
        *rows, mious = zip(*columns.values(), strict=True)
        lines += [f'| {c:{width}} | {" | ".join(cells)} |'
                  for c, cells in zip(result.domain.classes, rows, strict=True)]
        lines += [f'| {"mIoU":{width}} | {" | ".join(f"**{cell}**" for cell in mious)} |', '']
    total = sum(result.miou for result in results.values())
    lines.append(f'Sum of mIoUs: **{_percent(total)}**')
    if recognised := {name: result.recognised for name, result in results.items()
                      if result.recognised}:
        lines += ['', recognition_table(recognised)]
    return '\n'.join(lines)


def _columns(result: DomainResult) -> dict[str, list[str]]:
    """Return the columns of a domain's table by title: a cell for each class, then the mIoU's."""
    def values(part: DomainResult) -> list[float]:
        return [*part.iou, part.miou]

    columns = {'IoU %': map(_percent, values(result))}
    if result.before:
        columns['before %'] = map(_percent, values(result.before))
        columns['change'] = map(signed_points,
                                np.subtract(values(result), values(result.before)))
    for title, part in (('label embeddings %', result.by_label_embeddings),
                        ("all domains' label embeddings %", result.by_all_label_embeddings)):
        if part:
            columns[title] = map(_percent, values(part))
    return {title: list(cells) for title, cells in columns.items()}


def signed_points(change: float) -> str:
    """Return a change of a share (0..1) in percentage points, with its sign."""
    return 'absent' if np.isnan(change) else f'{100 * change:+.1f}'


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _percent(value: float) -> str:
    return 'absent' if np.isnan(value) else f'{100 * value:.1f}'
