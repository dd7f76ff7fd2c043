"""How well a model recognises images of its domains, and those of none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from univseg_core.inference.domain_decision import DecisionRule
from univseg_core.inference.segmenter import Segmenter
from univseg_core.models.domain_evidence import Recognition

FRAMES = DecisionRule.frames
"""Images, each and those before it, that recognitions are averaged over: a node's default."""

NONE_OF_THESE = 'none of these'
"""The key of an evaluation's JSON for what it found on images of no domain; no domain's name."""


@dataclass(frozen=True, eq=False)
class Recognised:
    """
    What images were recognised as, in their order.

    `probabilities` (n, K) are those of the domains with some `names`, `unfamiliarity` (n,) is how
    unlike all of them each image is: see Recognition.
    """

    names: tuple[str, ...]
    probabilities: np.ndarray
    unfamiliarity: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Recognition]) -> 'Recognised':
        """Return it of what one or more images were recognised as."""
        return cls(tuple(found[0].probabilities),
                   np.array([list(each.probabilities.values()) for each in found]),
                   np.array([each.unfamiliarity for each in found]))

    @classmethod
    def in_turn(cls, parts: Sequence['Recognised']) -> 'Recognised':
        """Return it of images that some processes have looked at in turn."""
        def merged(arrays: Sequence[np.ndarray]) -> np.ndarray:
            return np.array([row for rows in zip_longest(*arrays) for row in rows
                             if row is not None])

        return cls(parts[0].names, merged([each.probabilities for each in parts]),
                   merged([each.unfamiliarity for each in parts]))

    def averaged(self, frames: int = FRAMES) -> 'Recognised':
        """Return it with the mean over each image and those before it, `frames` at most."""
        def means(values: np.ndarray) -> np.ndarray:
            return np.array([values[max(0, end - frames):end].mean(0)
                             for end in range(1, len(values) + 1)])

        return Recognised(self.names, means(self.probabilities), means(self.unfamiliarity))

    def taken_for(self) -> dict[str, int]:
        """Return how many images have each domain as the most probable one."""
        counts = np.bincount(self.probabilities.argmax(1), minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    def share_of(self, name: str) -> float:
        """Return the share (0..1) of the images whose most probable domain has a name."""
        return self.taken_for()[name] / len(self.probabilities)

    def share_beyond(self, unfamiliarity: float = 1.0) -> float:
        """Return the share (0..1) of the images that are more unfamiliar than so."""
        return float((self.unfamiliarity > unfamiliarity).mean())

    def to_dict(self, own: str) -> dict:
        """Return how images of one's `own` domain were recognised, as plain JSON values."""
        averaged = self.averaged()
        return {'images': len(self.probabilities), 'taken_for': self.taken_for(),
                'right': self.share_of(own), f'right_over_{FRAMES}': averaged.share_of(own),
                'false_alarms': self.share_beyond(),
                f'false_alarms_over_{FRAMES}': averaged.share_beyond()}


@dataclass(frozen=True)
class Unknown:
    """
    How images of none of the domains were recognised as such, beside images of the domains.

    `auroc` is the probability that one of them is more unfamiliar than one of a domain. `found`
    is the share (0..1) of them beyond the unfamiliarity of 1, `found_at_1_percent` that beyond
    the level that one in a hundred of the images of the domains is above, `over_frames` the same
    where both are averaged over FRAMES images.
    """

    images: int
    auroc: float
    found: float
    found_at_1_percent: float
    over_frames: float

    def to_dict(self) -> dict:
        """Return it as plain JSON values."""
        return {'images': self.images, 'auroc': self.auroc, 'found': self.found,
                'found_at_1_percent': self.found_at_1_percent,
                f'found_at_1_percent_over_{FRAMES}': self.over_frames}


def recognised(segmenter: Segmenter, images: Iterable[np.ndarray]) -> Recognised:
    """Return what images (H, W, 3) uint8 RGB are recognised as; UnivsegError without evidence."""
    return Recognised.of([segmenter.recognise(segmenter.encode(image)) for image in images])


def compare_unknown(known: Sequence[Recognised], unknown: Recognised) -> Unknown:
    """Return how images of no domain stand out from those of each domain."""
    from sklearn.metrics import roc_auc_score

    def found(unknown: Recognised, known: Sequence[Recognised]) -> float:
        level = np.quantile(np.concatenate([each.unfamiliarity for each in known]), .99)
        return unknown.share_beyond(level)

    of_known = np.concatenate([each.unfamiliarity for each in known])
    values = np.concatenate([of_known, unknown.unfamiliarity])
    return Unknown(
        len(unknown.unfamiliarity),
        float(roc_auc_score(np.arange(len(values)) >= len(of_known), values)),
        unknown.share_beyond(), found(unknown, known),
        found(unknown.averaged(), [each.averaged() for each in known]))


def recognition_table(of_domains: Mapping[str, Recognised]) -> str:
    """Return a Markdown table of what the images of each domain were recognised as."""
    names = next(iter(of_domains.values())).names
    lines = [f'| images of | {" | ".join(names)} | right % | over {FRAMES} % | false alarms % |',
             '|---|' + '--:|' * (len(names) + 3)]
    for name, found in of_domains.items():
        cells = [*map(str, found.taken_for().values()), _percent(found.share_of(name)),
                 _percent(found.averaged().share_of(name)), _percent(found.share_beyond())]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def unknown_table(of_folders: Mapping[str, Unknown]) -> str:
    """Return a Markdown table of how images of no domain were recognised as such."""
    lines = [f'| {NONE_OF_THESE} | images | AUROC | found % | at 1 % false alarms | over {FRAMES} '
             '|', '|---|--:|--:|--:|--:|--:|']
    lines += [f'| {name} | {found.images} | {found.auroc:.4f} | {_percent(found.found)} | '
              f'{_percent(found.found_at_1_percent)} | {_percent(found.over_frames)} |'
              for name, found in of_folders.items()]
    return '\n'.join(lines)


def _percent(share: float) -> str:
    return f'{100 * share:.1f}'
