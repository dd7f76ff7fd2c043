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

    How many `images` and `pixels` were compared, and how many pixels are `equal`; `mious` are
    those of the original and of the exported model (0..1), where images had labels.
    """

    images: int = 0
    pixels: int = 0
    equal: int = 0
    mious: tuple[float, float] | None = None
    counts: tuple[ConfusionCount, ConfusionCount] | None = field(default=None, repr=False)

    def add(self, expected: np.ndarray, mask: np.ndarray, truth: np.ndarray | None) -> None:
        """Add an image's masks by the original and the exported model, and its truth if known."""
        self.images += 1
        self.pixels += mask.size
        self.equal += int(np.count_nonzero(mask == expected))
        if self.counts and truth is not None:
            before, after = self.counts
            before.add(expected, truth)
            after.add(mask, truth)

    def finish(self) -> None:
        """Measure what was counted."""
        if self.counts:
            before, after = self.counts
            self.mious = before.result().miou, after.result().miou

    @property
    def share(self) -> float:
        """Return the share of equal pixels, 0..1."""
        return self.equal / self.pixels if self.pixels else 1.0

    def to_dict(self) -> dict:
        """Return it as plain JSON values."""
        values = {'images': self.images, 'equal_pixels': self.share}
        return values if self.mious is None else {**values, 'miou': list(self.mious)}


def compare(original: Segmenter, exported: Mapping[str, Segmenter],
            samples: Mapping[str, Sequence[Sample]], size: tuple[int, int] | None
            ) -> dict[str, dict[str, Compared]]:
    """
    Return how the masks of exported models agree with the original's, by model and domain.

    All see each image at its own size, or brought to `size` (height, width) before. Where all of
    a domain's samples have labels, their mIoUs are measured, too.
    """
    results: dict[str, dict[str, Compared]] = {runtime: {} for runtime in exported}
    for name, files in samples.items():
        domain, labelled = original.domains[name], all(sample.label for sample in files)
        for found in results.values():
            found[name] = Compared(counts=(ConfusionCount(domain), ConfusionCount(domain))
                                   if labelled else None)
        for sample in progress_bar(files, f'compare {name}', leave=False):
            image, truth = _seen(sample, domain, labelled, size)
            expected = original.head_mask(original.encode(image), name)
            for runtime, each in exported.items():
                results[runtime][name].add(expected, each.head_mask(each.encode(image), name),
                                           truth)
        for found in results.values():
            found[name].finish()
    return results


def _seen(sample: Sample, domain: Domain, labelled: bool, size: tuple[int, int] | None
          ) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a sample's image, and its truth if it is labelled, brought to a size if any."""
    image, truth = (read_sample(sample, domain) if labelled else
                    (read_image(sample.image), None))
    if size:
        image = resize_image(image, *size)
        truth = None if truth is None else resize_label(truth, *size)
    return image, truth
