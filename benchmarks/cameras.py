"""
Measure one node with three cameras beside three nodes with one each.

    python benchmarks/cameras.py MODEL --rate 10 --seconds 30

The cameras are processes that send images of 1280×720 rgb8; the nodes run the model as a user's
would (`backend: auto`), with the package's Fast DDS profile. Memory is resident, all processes
together: with what they share counted once (PSS), and as `ps` shows it. The CPU time is that of
the nodes while the cameras send. Age is from an image's stamp to its mask's arrival at a consumer.
Ways take turns; medians.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from measured_node.consumer import Consumer
from measured_node.processes import (
    cpu_seconds,
    DEADLINE,
    running_node,
    stamp_of,
    start_camera,
    stay_alone,
)
import numpy as np
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

CAMERAS = ('front', 'left', 'rear')


def main() -> int:
    """Measure both ways, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', type=Path, help='a model file, exported or not')
    parser.add_argument('--domain', default='outdoor', help='(default: %(default)s)')
    parser.add_argument('--rate', type=float, default=10.0,
                        help='images a second of each camera (default: %(default)s)')
    parser.add_argument('--seconds', type=float, default=30.0, help='(default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=3, help='(default: %(default)s)')
    options = parser.parse_args()
    stay_alone()
    rclpy.init()
    found: dict[bool, list[list[float]]] = {True: [], False: []}
    for _ in range(options.repeats):
        for together, rows in found.items():
            rows.append(measured(options, together))
    print('| | PSS, MB | resident, MB | CPU, s | masks a second of each camera | age, ms: median '
          '| 95 % |\n|---|--:|--:|--:|--:|--:|--:|')
    for together, rows in found.items():
        pss, resident, cpu, *rates, median, late = np.median(rows, axis=0)
        print(f'| {"one node" if together else "three nodes"} | {pss:.0f} | {resident:.0f} | '
              f'{cpu:.1f} | {" ".join(f"{rate:.2f}" for rate in rates)} | {median:.0f} | '
              f'{late:.0f} |')
    rclpy.try_shutdown()
    return 0


def measured(options: argparse.Namespace, together: bool) -> list[float]:
    """Return MB (PSS, resident), CPU seconds, each camera's masks a second, and two ages in ms."""
    consumer = Consumer(())
    ages: dict[str, list[float]] = {name: [] for name in CAMERAS}
    for name in CAMERAS:
        # A node for each camera has the camera's name.
        owner = f'univseg/{name}' if together else name
        consumer.node.create_subscription(
            Image, f'{owner}/{options.domain}/mask', lambda message, name=name: ages[name].append(
                (consumer.node.get_clock().now().nanoseconds - stamp_of(message)) / 1e6),
            QoSProfile(depth=10))
    with ExitStack() as stack:
        processes = [stack.enter_context(running_node(
            'model', Path(stack.enter_context(tempfile.TemporaryDirectory())),
            model=options.model, arguments=arguments)) for arguments in ways(together)]
        cameras = [start_camera(options.rate, options.seconds, topic=f'{name}/image')
                   for name in CAMERAS]
        consumer.wait(lambda: all(ages.values()), 'masks of all cameras')
        for each in ages.values():
            each.clear()
        begin, before = time.monotonic(), sum(cpu_seconds(process.pid) for process in processes)
        consumer.wait(lambda: any(camera.poll() is not None for camera in cameras),
                      'the end of a camera', options.seconds + DEADLINE)
        # The cameras end a second after their last image.
        seconds = time.monotonic() - begin - 1
        cpu = sum(cpu_seconds(process.pid) for process in processes) - before
        memory = [sum(megabytes(process, key) for process in processes)
                  for key in ('Pss', 'Rss')]
        for camera in cameras:
            camera.wait()
    consumer.node.destroy_node()
    every = np.concatenate(list(ages.values()))
    return [*memory, cpu, *(len(each) / seconds for each in ages.values()),
            float(np.median(every)), float(np.percentile(every, 95))]


def ways(together: bool) -> list[list[str]]:
    """Return the arguments of the nodes: one for all cameras, or one for each."""
    if together:
        return [['-p', f'cameras:=[{",".join(CAMERAS)}]']]
    return [['-r', f'__node:={name}', '-r', f'image:={name}/image'] for name in CAMERAS]


def megabytes(process: subprocess.Popen, key: str) -> float:
    """Return a process's memory, Pss or Rss, in MB."""
    for line in Path(f'/proc/{process.pid}/smaps_rollup').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1]) * 1024 / 1e6
    return float('nan')


if __name__ == '__main__':
    sys.exit(main())
