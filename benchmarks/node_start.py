"""
Measure what the node takes from its process's start to its first mask, and its memory.

    python benchmarks/node_start.py --backend onnxruntime A.onnx B.univseg

A camera sends 1280×720 at 30 Hz before. Active is when another process hears so; CPU is that of
the node until its first mask is heard of. The memory is resident after 100 masks, with shared
libraries and the middleware's shared memory, or without. Files take turns; medians, times with the
range in brackets, without the first start, which may measure backends and fills the disk's cache.
"""

import argparse
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from measured_node.consumer import Consumer
from measured_node.processes import (
    cpu_seconds,
    DEADLINE,
    resident_megabytes,
    start_camera,
    stay_alone,
)
import numpy as np
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String
from univseg_core.inference.segmenter import load_network


def main() -> int:
    """Measure the files that the command line names, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', type=Path, metavar='MODEL',
                        help='model files, exported or not')
    parser.add_argument('--backend', default='auto', help='(default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=5, help='(default: %(default)s)')
    options = parser.parse_args()
    stay_alone()
    rclpy.init()
    rows: dict[Path, list[tuple[float, float, float, float, float, bool]]] = {
        path: [] for path in options.models}
    for _ in range(options.repeats + 1):
        for path, starts in rows.items():
            starts.append(one_start(path, options.backend))
    print('| model | active, s | first mask, s | CPU, s | resident, MB | its own, MB | PyTorch |\n'
          '|---|--:|--:|--:|--:|--:|---|')
    for path, starts in rows.items():
        figures = np.array([each[:5] for each in starts[1:]])
        middle, low, high = np.median(figures, axis=0), figures.min(0), figures.max(0)
        times = ' | '.join(f'{middle[i]:.2f} ({low[i]:.2f} to {high[i]:.2f})' for i in range(3))
        print(f'| {path.name} | {times} | {middle[3]:.0f} | {middle[4]:.0f} | '
              f'{"yes" if starts[0][5] else "no"} |')
    rclpy.try_shutdown()
    return 0


def one_start(model: Path, backend: str) -> tuple[float, float, float, float, float, bool]:
    """Return seconds to active and first mask, CPU's, MB, its own, and whether with PyTorch."""
    consumer = Consumer(())
    camera = start_camera(30, 60, waits=False)
    masks: list[float] = []
    active: list[float] = []
    consumer.node.create_subscription(
        String, 'univseg/active_domains', lambda message: active.append(time.monotonic()),
        QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    domain = next(iter(load_network(model)[0].domains))
    consumer.node.create_subscription(Image, f'univseg/{domain}/mask', lambda message:
                                      masks.append(time.monotonic()), QoSProfile(depth=1))
    time.sleep(3)  # the camera's own start
    # As installed: Python's bytecode is kept.
    environment = {name: value for name, value in os.environ.items()
                   if name != 'PYTHONDONTWRITEBYTECODE'}
    begin = time.monotonic()
    node = subprocess.Popen([sys.executable, '-m', 'univseg_ros.segmentation_node', '--ros-args',
                             '-p', f'model:={model}', '-p', f'backend:={backend}'],
                            stderr=subprocess.DEVNULL, env=environment)
    try:
        consumer.wait(lambda: len(masks) >= 1, 'a mask')
        cpu = cpu_seconds(node.pid)
        consumer.wait(lambda: len(masks) >= 100, 'masks')
        has_torch = 'libtorch' in Path(f'/proc/{node.pid}/maps').read_text(encoding='utf-8')
        return (active[0] - begin, masks[0] - begin, cpu,
                resident_megabytes(node.pid, with_shared=True), resident_megabytes(node.pid),
                has_torch)
    finally:
        node.send_signal(signal.SIGINT)
        node.wait(DEADLINE)
        camera.kill()
        camera.wait()
        consumer.node.destroy_node()


if __name__ == '__main__':
    sys.exit(main())
