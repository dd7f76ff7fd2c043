"""What it takes to read an image of each encoding."""

from pathlib import Path
import time

import cv2
from measured_node.processes import HEIGHT, WIDTH
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from univseg_core.pictures.encodings import ENCODINGS
from univseg_core.pictures.image_messages import decode


def measure_decoding(folder: Path, count: int) -> None:
    """Print the median time that it takes to read an image of each encoding, on one thread."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (9, 16, 3), np.uint8), (WIDTH, HEIGHT))
    messages = {}
    for name, encoding in ENCODINGS.items():
        step = WIDTH * encoding.channels * np.dtype(encoding.dtype).itemsize
        messages[name] = Image(height=HEIGHT, width=WIDTH, encoding=name, step=step,
                               data=rng.bytes(encoding.rows(HEIGHT) * step))
    for suffix in ('jpeg', 'png'):
        data = cv2.imencode(f'.{suffix}', picture)[1].tobytes()
        messages[f'{suffix} of {len(data) // 1000} kB'] = CompressedImage(
            format=suffix, data=data)
    for name, message in messages.items():
        times = []
        for _ in range(count):
            begin = time.perf_counter()
            decode(message)
            times.append(time.perf_counter() - begin)
        print(f'{name:20} {1000 * np.median(times):6.2f} ms')
