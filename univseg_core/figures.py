"""Pictures for eyes: overlays, legends, panels."""

from collections.abc import Sequence

import cv2
import numpy as np
from univseg_core.data.folders import read_sample, Sample
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference import Segmenter

FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT = (30, 30, 30)
PAPER = (255, 255, 255)


def overlay(image: np.ndarray, mask: np.ndarray, domain: Domain,
            opacity: float = 0.5) -> np.ndarray:
    """
    Return an image (H, W, 3) uint8 tinted by its mask (H, W) uint8 in the domain's colours.

    Unknown pixels (255) keep the image's own colour.
    """
    tinted = cv2.addWeighted(image, 1 - opacity, domain.colourise(mask), opacity, 0)
    return np.where((mask == IGNORE_INDEX)[..., None], image, tinted)


def legend(domain: Domain, width: int, height: int | None = None) -> np.ndarray:
    """Return a strip (height, width, 3) uint8 of the classes' colours and names, in rows."""
    line, margin, scale = 22, 8, 0.45
    texts = [cv2.getTextSize(name, FONT, scale, 1)[0][0] for name in domain.classes]
    column = max(texts) + line + 2 * margin
    columns = max(1, min(len(texts), width // column))
    rows = -(-len(texts) // columns)
    strip = np.full((height or rows * line + margin, width, 3), PAPER, np.uint8)
    for i, (name, colour) in enumerate(zip(domain.classes, domain.palette, strict=True)):
        x, y = margin + (i % columns) * column, margin // 2 + (i // columns) * line
        cv2.rectangle(strip, (x, y + 3), (x + 14, y + 17), colour, cv2.FILLED)
        cv2.rectangle(strip, (x, y + 3), (x + 14, y + 17), TEXT)  # white is a colour, too
        cv2.putText(strip, name, (x + line, y + 15), FONT, scale, TEXT, 1, cv2.LINE_AA)
    return strip


def with_legend(picture: np.ndarray, domain: Domain) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 with the domain's legend below it."""
    return np.vstack([picture, legend(domain, picture.shape[1])])


def panel(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], domain: Domain,
          width: int = 320) -> np.ndarray:
    """
    Return rows of pictures (each (H, W, 3) uint8) under column titles, above a legend.

    Each picture is scaled to `width` pixels.
    """
    gap = 4
    lines = [_title_line(titles, width, gap)]
    for row in rows:
        height = round(width * row[0].shape[0] / row[0].shape[1])
        cells = [cv2.resize(cell, (width, height), interpolation=cv2.INTER_NEAREST)
                 for cell in row]
        cells = [np.pad(cell, ((gap, 0), (gap, 0), (0, 0)), constant_values=255)
                 for cell in cells]
        lines.append(np.hstack(cells))
    return with_legend(np.vstack(lines), domain)


def validation_panel(segmenter: Segmenter, domain: Domain, samples: Sequence[Sample],
                     count: int = 4) -> np.ndarray:
    """Return a panel of image, truth and prediction of some samples, evenly spaced."""
    count = min(count, len(samples))
    spaced = [samples[i * len(samples) // count] for i in range(count)]
    rows = []
    for image, label in (read_sample(sample, domain) for sample in spaced):
        mask = segmenter(image, [domain.name])[domain.name].mask
        rows.append([image, domain.colourise(label), domain.colourise(mask)])
    return panel(rows, ['image', 'truth', 'prediction'], domain)


def _title_line(titles: Sequence[str], width: int, gap: int) -> np.ndarray:
    line = np.full((26, len(titles) * (width + gap), 3), PAPER, np.uint8)
    for i, title in enumerate(titles):
        cv2.putText(line, title, (i * (width + gap) + gap, 19), FONT, 0.55, TEXT, 1, cv2.LINE_AA)
    return line
