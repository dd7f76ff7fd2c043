"""
What it takes to make each output of a segmented frame, and how large its message is.

  python benchmarks/frame_outputs.py

The frames are scenes of the two synthetic worlds in 1280×720 with their true masks, whose
confidences are random; camera_info is scaled to half its size. Publishing comes on top.
"""

import argparse
from functools import partial
import statistics
import time

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from univseg_core.demo.scenes.worlds import render_scene, WORLDS
from univseg_core.inference.segmenter import Segmentation
from univseg_ros.camera_info import scaled
from univseg_ros.outputs import Frame, OUTPUTS

WIDTH, HEIGHT = 1280, 720
SCENES = 4


def frames() -> list[Frame]:
    """Return frames of both worlds."""
    generator = np.random.default_rng(0)
    info = CameraInfo(width=2 * WIDTH, height=2 * HEIGHT, d=[0.0] * 5)
    found = []
    for name, domain in WORLDS.items():
        for seed in range(SCENES):
            image, label = render_scene(name, seed, WIDTH, HEIGHT)
            confidence = generator.integers(0, 256, label.shape, np.uint8)
            found.append(Frame(domain, Header(frame_id='camera'), image,
                               Segmentation(label, confidence,
                                            generator.random(len(domain.classes))), [0, 1],
                               lambda header, size: scaled(info, size)))
    return found


def milliseconds(make: partial, runs: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        make()
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=25,
                        help='of each, whose median counts (default: %(default)s)')
    runs = parser.parse_args().runs
    cv2.setNumThreads(1)
    every = frames()
    print('| output | ms | kB |\n|---|--:|--:|')
    for name, output in OUTPUTS.items():
        takes = statistics.mean(milliseconds(partial(output.make, frame), runs)
                                for frame in every)
        size = statistics.mean(len(serialize_message(output.make(frame))) for frame in every)
        print(f'| `{name}` | {takes:.1f} | {size / 1000:.1f} |')


if __name__ == '__main__':
    main()
