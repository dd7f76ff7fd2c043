"""Confusion matrix → IoU of each class → mIoU of each domain → their sum."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.classification import MulticlassConfusionMatrix
from tqdm import tqdm
from univseg_core.data.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference import Segmenter


@dataclass(frozen=True)
class DomainResult:
    """
    How well one domain's validation set is segmented.

    `confusion` (C, C) int64 counts pixels, rows truth, columns prediction.
    """

    domain: Domain
    confusion: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Return each class's IoU, (C,) in 0..1 (Eq 6); NaN where no truth and no mask has it."""
        hits = np.diag(self.confusion).astype(float)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hits
        return np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)

    @property
    def miou(self) -> float:
        """Return the mean IoU, in 0..1, over the classes that occur; NaN if none does."""
        occurring = self.iou[~np.isnan(self.iou)]
        return float(occurring.mean()) if len(occurring) else float('nan')

    def to_dict(self) -> dict:
        """Return mIoU and class-wise IoU as plain JSON values, None where absent."""
        return {'miou': _json_number(self.miou),
                'iou': {name: _json_number(value)
                        for name, value in zip(self.domain.classes, self.iou, strict=True)}}


def measure(domain: Domain, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> DomainResult:
    """
    Return the result of (mask, truth) pairs, each (H, W) uint8 of equal sizes.

    One confusion matrix over all images; pixels whose truth is 255 do not count.
    """
    classes = len(domain.classes)
    confusion = MulticlassConfusionMatrix(classes, ignore_index=IGNORE_INDEX, validate_args=False)
    for mask, truth in pairs:
        confusion.update(torch.from_numpy(mask).long(), torch.from_numpy(truth).long())
    return DomainResult(domain, confusion.compute().numpy().reshape(classes, classes))


def evaluate(segmenter: Segmenter, samples: Mapping[str, Sequence[Sample]],
             progress: bool = True) -> dict[str, DomainResult]:
    """
    Measure each domain's head on its labelled samples, at the label maps' own size.

    `samples` maps names of the segmenter's domains to image and label files.
    """
    results = {}
    for name, files in samples.items():
        domain = segmenter.domains[name]
        bar = tqdm(files, desc=f'evaluate {name}', unit='image', leave=False,
                   disable=not progress)
        pairs = (read_sample(sample, domain) for sample in bar)
        results[name] = measure(domain, ((segmenter(image, [name])[name].mask, label)
                                         for image, label in pairs))
    return results


def report(results: Mapping[str, DomainResult]) -> str:
    """Return a Markdown table of IoU by class, of each domain's mIoU, and their sum."""
    lines = []
    for name, result in results.items():
        width = max(len(c) for c in (*result.domain.classes, 'class'))
        lines += [f'### {name}', '', f'| {"class":{width}} | IoU % |',
                  f'|{"-" * (width + 2)}|--:|']
        lines += [f'| {c:{width}} | {_percent(v)} |'
                  for c, v in zip(result.domain.classes, result.iou, strict=True)]
        lines += [f'| {"mIoU":{width}} | **{_percent(result.miou)}** |', '']
    total = sum(result.miou for result in results.values())
    return '\n'.join([*lines, f'Sum of mIoUs: **{_percent(total)}**'])


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _percent(value: float) -> str:
    return 'absent' if np.isnan(value) else f'{100 * value:.1f}'
