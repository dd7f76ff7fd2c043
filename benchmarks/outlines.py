"""
Measure what the tolerance of outlines costs: pixels that are others when they are painted again.

    python benchmarks/outlines.py camvid/train/label nyuv2/train/label13

For each folder of index PNGs (255: void) and each tolerance, a row of a Markdown table: the mean
and the largest share of an image's pixels that differ, among them those of which two outlines
leave a gap, how many corners the outlines of an image have, and the time that they take.
"""

import argparse
from pathlib import Path
import time

import cv2
import numpy as np
from univseg_core.annotations.outlines import class_outlines
from univseg_core.annotations.regions import Polygons
from univseg_core.datasets.folders import some_images
from univseg_core.domains import IGNORE_INDEX


def measured(mask: np.ndarray, tolerance: float) -> tuple[float, float, int, float]:
    """Return the shares that differ and that are a gap, 0..1, corners, and CPU seconds."""
    started = time.process_time()
    found = list(class_outlines(mask, tolerance))
    took = time.process_time() - started
    again = np.full_like(mask, IGNORE_INDEX)
    corners = 0
    for index, outline in found:
        corners += len(outline.outer) + sum(map(len, outline.holes))
        again[Polygons([outline.outer], outline.holes).mask(*mask.shape)] = index
    wrong = again != mask
    return float(wrong.mean()), float((wrong & (again == IGNORE_INDEX)).mean()), corners, took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', type=Path, help='folders of index PNGs')
    parser.add_argument('--tolerances', type=float, nargs='+',
                        default=[0, 0.5, 0.6, 0.7, 0.8, 1, 1.5],
                        help='in pixels (default: 0 to 1.5)')
    parser.add_argument('--images', type=int, default=100,
                        help='of each, evenly chosen, at most (default: 100)')
    options = parser.parse_args()
    print('| labels | tolerance | differ, mean % | largest % | gaps % | corners | ms |')
    print('|---|--:|--:|--:|--:|--:|--:|')
    for folder in options.folders:
        files = some_images(folder)
        masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                 for path in files[::max(1, len(files) // options.images)]]
        for tolerance in options.tolerances:
            wrong, gaps, corners, took = np.transpose(
                [measured(mask, tolerance) for mask in masks])
            print(f'| {folder} | {tolerance:g} | {100 * wrong.mean():.2f} | '
                  f'{100 * wrong.max():.2f} | {100 * gaps.mean():.2f} | {corners.mean():.0f} | '
                  f'{1000 * np.median(took):.0f} |', flush=True)


if __name__ == '__main__':
    main()
