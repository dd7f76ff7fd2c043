"""What a model makes of a frame, and how that is drawn."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference.cell_entropy import cell_entropy
from univseg_core.inference.full_resolution import top_classes
from univseg_core.inference.segmenter import Encoded, Segmenter
from univseg_core.models.domain_evidence import Recognition
from univseg_core.pictures.images import fit_size, resize_image
from univseg_core.pictures.overlay import overlay, VOID

LONGEST_SIDE = 1600
"""Pixels of a shown frame's longer side at most; larger ones are shrunk: a page stays quick."""

HEAT_COLOURS = cv2.COLORMAP_VIRIDIS
"""From 0 (dark blue) to 1 (yellow); also eyes without one kind of cones see it rise."""

HEAD, LABEL_EMBEDDINGS = 'head', 'label embeddings'
"""What may tell the classes of a domain: its head, or which of its label embeddings is nearest."""


@dataclass(frozen=True)
class Answer:
    """
    What a model says of a frame in one domain's label space, all (H, W) uint8.

    `mask` holds class indices, 255 where the logits are no numbers; `confidence` is the top
    class's softmax probability and `entropy` that of the softmax over its largest, the logarithm
    of the number of classes, both as 0..255. By label embeddings, the dot products of Eq 2 stand
    in the place of logits.
    """

    mask: np.ndarray
    confidence: np.ndarray
    entropy: np.ndarray


@dataclass(frozen=True)
class Seen:
    """
    A frame and all that a model makes of it after one encoder pass.

    `image` (H, W, 3) uint8 RGB is at the size at which it is shown; `answers` has one of each
    domain, and `recognition` is None where the model cannot tell its domains.
    """

    name: str
    image: np.ndarray
    answers: dict[str, Answer]
    recognition: Recognition | None


HEATS: dict[str, Callable[[Answer], np.ndarray]] = {
    'confidence': lambda answer: answer.confidence,
    'entropy': lambda answer: answer.entropy,
}
"""What is drawn as a heat map, by name."""

CLASSES = 'classes'
DRAWN = (CLASSES, *HEATS)
"""What may be drawn over a frame."""


@dataclass(frozen=True)
class Look:
    """
    How an answer is drawn: one of DRAWN, at an opacity 0..1.

    Pixels of the classes in `hidden` keep the image's own colour; with `alone`, so do those of
    all classes but that one.
    """

    drawn: str = CLASSES
    opacity: float = 0.5
    hidden: frozenset[int] = field(default_factory=frozenset)
    alone: int | None = None

    def toggled(self, index: int) -> 'Look':
        """Return the look with a class hidden, or shown again."""
        return replace(self, hidden=self.hidden ^ {index})


def see(segmenter: Segmenter, name: str, image: np.ndarray, by: str = HEAD) -> Seen:
    """
    Return what a model makes of an image (H, W, 3) uint8 RGB: one encoder pass, all domains.

    `by` is HEAD or LABEL_EMBEDDINGS. Raises UnivsegError for a shape that a network for one size
    alone does not take, or where the model has no label embeddings.
    """
    encoded = segmenter.encode(image)
    recognition = segmenter.recognise(encoded) if segmenter.evidence else None
    size = shown_size(*image.shape[:2])
    encoded = replace(encoded, size=size)
    return Seen(name, resize_image(image, *size),
                {each: _answer(segmenter, encoded, each, by) for each in segmenter.domains},
                recognition)


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) at which an image is shown: its own, or LONGEST_SIDE."""
    return fit_size(height, width, min(LONGEST_SIDE, max(height, width)))


def _answer(segmenter: Segmenter, encoded: Encoded, name: str, by: str) -> Answer:
    classes = list(range(len(segmenter.domains[name].classes)))
    if by == HEAD:
        logits = segmenter.logits(encoded, name)
    else:
        logits, classes = segmenter.label_embedding_scores(encoded, name)
    mask, confidence = top_classes(logits, encoded.network_size, encoded.size, segmenter.stride,
                                   confidence=True)
    assert confidence is not None  # it was asked for
    entropy = at_size(cell_entropy(logits), encoded.network_size, encoded.size, segmenter.stride)
    indices = np.full(256, IGNORE_INDEX, np.uint8)
    indices[:len(classes)] = classes
    return Answer(indices[mask], confidence, entropy)


def at_size(cells: np.ndarray, network_size: tuple[int, int], size: tuple[int, int],
            stride: int) -> np.ndarray:
    """
    Return values 0..1 of cells (h, w) at the size of an image, (H, W) uint8 as 0..255.

    They lie over the image as logits do: upsampled bilinearly by the stride, cropped to what the
    network saw, resized.
    """
    height, width = cells.shape
    wide = cv2.resize(cells, (width * stride, height * stride), interpolation=cv2.INTER_LINEAR)
    wide = wide[:network_size[0], :network_size[1]]
    fitted = cv2.resize(wide, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.round(255 * fitted).astype(np.uint8)


def drawn(image: np.ndarray, answer: Answer, domain: Domain, look: Look) -> np.ndarray:
    """Return an image (H, W, 3) uint8 RGB with an answer over it, as a look has it."""
    off = _switched_off(answer.mask, domain, look)
    if look.drawn == CLASSES:
        mask = np.where(off, np.uint8(IGNORE_INDEX), answer.mask)
        return overlay(image, mask, domain, look.opacity)
    tinted = cv2.addWeighted(image, 1 - look.opacity, heat_map(HEATS[look.drawn](answer)),
                             look.opacity, 0)
    return np.where(off[..., None], image, tinted)


def _switched_off(mask: np.ndarray, domain: Domain, look: Look) -> np.ndarray:
    """Return where (H, W) a mask is of a class that a look does not show."""
    off = np.zeros(256, bool)
    if look.alone is None:
        off[list(look.hidden)] = True
    else:
        off[:] = True
        off[look.alone] = False
    return off[mask]


def heat_map(values: np.ndarray) -> np.ndarray:
    """Return values (H, W) uint8 in the colours of a heat map, (H, W, 3) uint8 RGB."""
    return cv2.cvtColor(cv2.applyColorMap(values, HEAT_COLOURS), cv2.COLOR_BGR2RGB)


def heat_scale(steps: int = 9) -> list[str]:
    """Return the colours of the heat map from 0 to 1, as #rrggbb."""
    values = np.linspace(0, 255, steps).round().astype(np.uint8)[None]
    return [as_hex(colour) for colour in heat_map(values)[0]]


def as_hex(colour: tuple[int, int, int] | np.ndarray) -> str:
    """Return (red, green, blue), each 0..255, as #rrggbb."""
    return '#{:02x}{:02x}{:02x}'.format(*map(int, colour))


def shares(mask: np.ndarray, classes: int) -> np.ndarray:
    """Return which share of a mask (H, W) uint8 each class covers, (C,) float64 in 0..1."""
    return np.bincount(mask.ravel(), minlength=256)[:classes] / mask.size


def share_text(share: float) -> str:
    """Return a share 0..1 in percent; '' for none."""
    return '' if not share else '< 1 %' if share < 0.01 else f'{round(100 * share)} %'


def under(answer: Answer, domain: Domain, x: float, y: float) -> str:
    """Say of which class the pixel at (x, y) is and how sure the model is; '' outside."""
    height, width = answer.mask.shape
    if not (0 <= x < width and 0 <= y < height):
        return ''
    at = int(y), int(x)
    index = int(answer.mask[at])
    name = VOID if index == IGNORE_INDEX else domain.classes[index]
    return (f'{name} · confidence {round(answer.confidence[at] / 2.55)} % · '
            f'entropy {answer.entropy[at] / 255:.2f}')


def recognised(recognition: Recognition) -> str:
    """Say as which domain a frame is recognised, and how sure that is."""
    name, of = recognition.domain, recognition.unfamiliarity
    if not recognition.is_familiar:
        return f'of none of the domains (unfamiliarity {of:.2f}, most like {name})'
    return (f'recognised as {name} ({round(100 * recognition.probabilities[name])} %, '
            f'unfamiliarity {of:.2f})')
