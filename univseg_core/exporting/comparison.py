"""What an exported model sees beside its original, on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from univseg_core.datasets.folders import read_sample, Sample
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmenter
from univseg_core.measuring.evaluation import ConfusionCount
from univseg_core.pictures.images import read_image, resize_image, resize_label
from univseg_core.progress import progress_bar


@dataclass
class Compared:
    """
    One domain's masks of two models.

    Of so many `images`, `pixels` in all, of which so many are `equal`; `mious` are those of the
    original and of the exported model (0..1), where images had labels.
    """

    images: int = 0
    pixels: int = 0
    equal: int = 0
    mious: tuple[float, float] | None = None
    counts: tuple[ConfusionCount, ConfusionCount] | None = field(default=None, repr=False)

    @property
    def share(self) -> float:
        """Return the share of equal pixels, 0..1."""
        return self.equal / self.pixels if self.pixels else 1.0

    def to_dict(self) -> dict:
        """Return it as plain JSON values."""
        values = {'images': self.images, 'equal_pixels': self.share}
        return values if self.mious is None else {**values, 'miou': list(self.mious)}


def compare(original: Segmenter, exported: Segmenter, samples: Mapping[str, Sequence[Sample]],
            size: tuple[int, int] | None) -> dict[str, Compared]:
    """
    Return how the masks of two models agree, by domain, on the samples of each domain.

    Both see each image at its own size, or brought to `size` (height, width) before. Where all of
    a domain's samples have labels, their mIoUs are measured, too.
    """
    results = {}
    for name, files in samples.items():
        domain, result = original.domains[name], Compared()
        if files and all(sample.label for sample in files):
            result.counts = ConfusionCount(domain), ConfusionCount(domain)
        for sample in progress_bar(files, f'compare {name}', leave=False):
            _add(result, original, exported, domain, sample, size)
        if result.counts:
            before, after = result.counts
            result.mious = before.result().miou, after.result().miou
        results[name] = result
    return results


def _add(result: Compared, original: Segmenter, exported: Segmenter, domain: Domain,
         sample: Sample, size: tuple[int, int] | None) -> None:
    if result.counts:
        image, truth = read_sample(sample, domain)
    else:
        image, truth = read_image(sample.image), None
    if size:
        image = resize_image(image, *size)
        truth = None if truth is None else resize_label(truth, *size)
    masks = [each.head_mask(each.encode(image), domain.name) for each in (original, exported)]
    result.images += 1
    result.pixels += masks[0].size
    result.equal += int(np.count_nonzero(masks[0] == masks[1]))
    if result.counts and truth is not None:
        for count, mask in zip(result.counts, masks, strict=True):
            count.add(mask, truth)
