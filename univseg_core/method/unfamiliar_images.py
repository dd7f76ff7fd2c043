"""
Images of no domain, for the evidence of "none of these": made of training images, and of none.

They need not look like anything that a robot meets. What counts is that they are near the
training images in some ways and far in others: so the border is drawn around what the domains have
in common, not merely between them.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from univseg_core.pictures.images import resize_image

Generator = np.random.Generator


def distorted(image: np.ndarray, generator: Generator) -> Iterator[np.ndarray]:
    """Yield an image (H, W, 3) uint8 RGB without what makes its place, in several ways."""
    for change in (with_patches_exchanged, in_other_colours, in_colour_cells, turned):
        yield change(image, generator)


def with_patches_exchanged(image: np.ndarray, generator: Generator) -> np.ndarray:
    """Return an image whose patches, 2×2 to 8×8 of them, stand in another order."""
    result, count = image.copy(), int(generator.integers(2, 9))
    height, width = (side // count for side in image.shape[:2])
    for place, source in enumerate(generator.permutation(count * count).tolist()):
        (row, column), (from_row, from_column) = divmod(place, count), divmod(source, count)
        top, left = from_row * height, from_column * width
        result[row * height:(row + 1) * height, column * width:(column + 1) * width] = (
            image[top:top + height, left:left + width])
    return result


def in_other_colours(image: np.ndarray, generator: Generator) -> np.ndarray:
    """Return an image with channels exchanged, maybe inverted, hues turned, more saturated."""
    image = np.ascontiguousarray(image[..., generator.permutation(3)])
    hsv = cv2.cvtColor(255 - image if generator.random() < .5 else image, cv2.COLOR_RGB2HSV)
    hue, saturation = hsv[..., 0].astype(int), hsv[..., 1]
    hsv[..., 0] = (hue + int(generator.integers(30, 150))) % 180  # of OpenCV's 180
    hsv[..., 1] = np.clip(saturation * generator.uniform(1, 2.5) + generator.uniform(0, 60), 0,
                          255)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def in_colour_cells(image: np.ndarray, generator: Generator) -> np.ndarray:
    """Return 10 to 200 cells, each of the colour that the image has at the cell's centre."""
    height, width = image.shape[:2]
    count = int(generator.integers(10, 200))
    centres = np.ones((height, width), np.uint8)
    centres[generator.integers(height, size=count), generator.integers(width, size=count)] = 0
    _, nearest = cv2.distanceTransformWithLabels(centres, cv2.DIST_L2, 5,
                                                 labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((count + 1, 3), np.uint8)
    colours[nearest[centres == 0]] = image[centres == 0]
    return colours[nearest]


def turned(image: np.ndarray, generator: Generator) -> np.ndarray:
    """Return an image upside down, or its middle part turned by 90°."""
    height, width = image.shape[:2]
    quarters = int(generator.integers(1, 4))
    if quarters == 2:
        return np.ascontiguousarray(image[::-1, ::-1])
    # The largest middle part that has, turned, the shape of the whole.
    tall, wide = ((height, max(1, height * height // width)) if height <= width
                  else (max(1, width * width // height), width))
    top, left = (height - tall) // 2, (width - wide) // 2
    part = np.rot90(image[top:top + tall, left:left + wide], quarters)
    return np.ascontiguousarray(resize_image(np.ascontiguousarray(part), height, width))


def made_up(count: int) -> list[Callable[[int, int, Generator], np.ndarray]]:
    """
    Return functions that make images of nothing, from height, width and chance.

    They are about `count`, but 60 at least. About half are heaps of shapes; the others are noise
    of all scales, single colours, and what a camera sees in the dark.
    """
    few = max(10, count // 10)
    return [*[heap_of_shapes] * max(20, count // 2), *[noise] * few, *[clouds] * few,
            *[one_colour] * few, *[dark] * few]


def heap_of_shapes(height: int, width: int, generator: Generator) -> np.ndarray:
    """Return shapes of all sizes, one over the other, each of a colour, shaded and grained."""
    image = np.empty((height, width, 3), np.float32)
    image[:] = generator.integers(0, 256, 3)
    is_smooth, scale = generator.random() < .6, max(height, width) / 480
    for _ in range(int(generator.integers(8, 120))):
        colour = generator.integers(0, 256, 3).astype(np.float32)
        if generator.random() < .5:
            colour = colour.mean() + (colour - colour.mean()) * generator.uniform(0, .5)
        inside = _shape(height, width, scale * np.exp(generator.uniform(1.5, 5.2)), generator)
        side = int(generator.integers(2))
        shade = np.linspace(generator.uniform(.6, 1), generator.uniform(1, 1.4),
                            (height, width)[side], dtype=np.float32)
        shaded = np.broadcast_to(shade[:, None] if side == 0 else shade, (height, width))
        pixels = colour * shaded[inside][:, None]
        if not is_smooth:
            pixels += generator.normal(0, generator.uniform(0, 25), (len(pixels), 1))
        image[inside] = pixels
    blurred = cv2.GaussianBlur(image, (0, 0), generator.uniform(.3, 1.5))
    return _as_pixels(blurred + generator.normal(0, generator.uniform(0, 6), image.shape))


def _shape(height: int, width: int, size: float, generator: Generator) -> np.ndarray:
    """Return where a shape of about a size in pixels is, (height, width) bool."""
    mask, reach = np.zeros((height, width), np.uint8), max(2, round(size))
    centre = int(generator.integers(width)), int(generator.integers(height))
    kind = generator.integers(4)
    if kind == 0:
        cv2.circle(mask, centre, reach, 1, -1)
    elif kind == 1:
        cv2.rectangle(mask, centre, (centre[0] + reach, centre[1] + int(
            reach * generator.uniform(.2, 3))), 1, -1)
    elif kind == 2:
        corners = generator.integers(-reach, reach + 1, (int(generator.integers(3, 7)), 2))
        cv2.fillPoly(mask, [(np.array(centre) + corners).astype(np.int32)], 1)
    else:
        cv2.ellipse(mask, centre, (reach, max(1, int(reach * generator.uniform(.1, 1)))),
                    generator.uniform(0, 180), 0, 360, 1, -1)
    return mask > 0


def noise(height: int, width: int, generator: Generator) -> np.ndarray:
    """Return independent pixels, of any contrast, in colours or grey."""
    channels = 3 if generator.random() < .7 else 1
    values = generator.random((height, width, channels)) - .5
    return _as_pixels(127.5 + 255 * generator.uniform(.2, 1) * np.repeat(
        values, 3 // channels, axis=2))


def clouds(height: int, width: int, generator: Generator) -> np.ndarray:
    """Return noise that is blurred, by little or much, at full contrast."""
    values = generator.normal(size=(height, width, 3)).astype(np.float32)
    width_of_blur = max(height, width) / 480 * generator.uniform(1, 30)
    blurred = cv2.GaussianBlur(values, (0, 0), width_of_blur)
    blurred -= blurred.min()
    return _as_pixels(255 / max(blurred.max(), 1e-6) * blurred)


def one_colour(height: int, width: int, generator: Generator) -> np.ndarray:
    """Return a single colour: any, or black, or white."""
    colour = (generator.integers(0, 256, 3), np.zeros(3), np.full(3, 255))[
        generator.choice(3, p=(.7, .15, .15))]
    return np.broadcast_to(colour.astype(np.uint8), (height, width, 3)).copy()


def dark(height: int, width: int, generator: Generator) -> np.ndarray:
    """Return what a camera sees behind its lens cap."""
    return _as_pixels(generator.normal(generator.uniform(0, 12), generator.uniform(.5, 5),
                                       (height, width, 3)))


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
