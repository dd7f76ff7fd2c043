"""Masks over images, for eyes: overlays and their legends."""

import cv2
import numpy as np
from univseg_core.domains import Domain, IGNORE_INDEX

FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT = (30, 30, 30)
PAPER = (255, 255, 255)
VOID = 'void'
BLACK = (0, 0, 0)
"""The colour of void in `Domain.colourise`."""

VISIBLE_SHARE = 0.002
"""Share of an image that a class covers at least to be named in the legend inside."""


def overlay(image: np.ndarray, mask: np.ndarray, domain: Domain,
            opacity: float = 0.5) -> np.ndarray:
    """
    Return an image (H, W, 3) uint8 tinted by its mask (H, W) uint8 in the domain's colours.

    Unknown pixels (255) keep the image's own colour.
    """
    tinted = cv2.addWeighted(image, 1 - opacity, domain.colourise(mask), opacity, 0)
    return np.where((mask == IGNORE_INDEX)[..., None], image, tinted)


def legend(domain: Domain, width: int, height: int | None = None,
           void: tuple[int, int, int] | None = None) -> np.ndarray:
    """
    Return a strip (height, width, 3) uint8 of the colours and names of classes and void, in rows.

    `void` is the colour of pixels without a class; None where they are not coloured, as in an
    overlay: then its square is crossed out.
    """
    line, margin, scale = 22, 8, 0.45
    names = [*domain.classes, VOID if void else f'{VOID} (not coloured)']
    colours = [*domain.palette, void or PAPER]
    texts = [cv2.getTextSize(name, FONT, scale, 1)[0][0] for name in names]
    column = max(texts) + line + 2 * margin
    columns = max(1, min(len(texts), width // column))
    rows = -(-len(texts) // columns)
    strip = np.full((height or rows * line + margin, width, 3), PAPER, np.uint8)
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        x, y = margin + (i % columns) * column, margin // 2 + (i // columns) * line
        cv2.rectangle(strip, (x, y + 3), (x + 14, y + 17), colour, cv2.FILLED)
        cv2.rectangle(strip, (x, y + 3), (x + 14, y + 17), TEXT)  # white is a colour, too
        cv2.putText(strip, name, (x + line, y + 15), FONT, scale, TEXT, 1, cv2.LINE_AA)
        if i == len(domain.classes) and void is None:
            cv2.line(strip, (x, y + 17), (x + 14, y + 3), TEXT)
    return strip


def with_legend(picture: np.ndarray, domain: Domain,
                void: tuple[int, int, int] | None = None) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 with the domain's legend below it; see `legend`."""
    return np.vstack([picture, legend(domain, picture.shape[1], void=void)])


def overlay_with_legend(image: np.ndarray, mask: np.ndarray, domain: Domain) -> np.ndarray:
    """
    Return the overlay of an image (H, W, 3) uint8 at its own size, with the legend inside.

    The legend names the classes that cover most of the mask, as many as find room in a column at
    the upper left; its letters grow with the image. In an image too small for it there is none.
    """
    picture = overlay(image, mask, domain)
    height, width = mask.shape
    line = min(max(height // 32, 12), 48)
    # The 256 bins of all uint8 values, of which the last is unknown; a column in OpenCV 4.
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()[:len(domain.classes)]
    largest = np.argsort(-counts, kind='stable')[:max(0, height // line - 1)]
    shown = sorted(largest[counts[largest] >= VISIBLE_SHARE * mask.size])
    scale, thickness = line / 32, max(1, line // 20)
    texts = [domain.classes[index] for index in shown]
    if not texts:
        return picture
    box = 2 * line + max(cv2.getTextSize(text, FONT, scale, thickness)[0][0] for text in texts)
    if 2 * box > width:
        return picture
    corner = picture[:line * len(texts) + line // 2, :box]
    cv2.addWeighted(corner, 0.2, np.full_like(corner, 255), 0.8, 0, dst=corner)
    for row, (index, text) in enumerate(zip(shown, texts, strict=True)):
        top = line // 4 + row * line
        swatch = ((line // 4, top + line // 8), (line + line // 8, top + line - line // 8))
        cv2.rectangle(picture, *swatch, domain.palette[index], cv2.FILLED)
        cv2.rectangle(picture, *swatch, TEXT)
        cv2.putText(picture, text, (line + line // 2, top + 3 * line // 4), FONT, scale, TEXT,
                    thickness, cv2.LINE_AA)
    return picture
