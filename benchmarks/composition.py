"""
Measure the memory of two segmentation nodes in one process, which share a model or do not.

    python benchmarks/composition.py --backend openvino A.onnx B.onnx

Each figure is of new processes. Memory is resident, without shared libraries and the middleware's
shared memory, after each node has segmented images of 1280×720. Two nodes do not share a model
where they name its device in two ways: cpu, and auto on a machine without a GPU. Medians.
"""

import argparse
import os
from pathlib import Path
import subprocess
import sys

from measured_node.processes import resident_megabytes, stay_alone
import numpy as np
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from univseg_ros.segmentation_node import SegmentationNode

COMPOSITIONS = {'one node': ['cpu'], 'two, one model': ['cpu', 'cpu'],
                'two, two models': ['cpu', 'auto']}
"""The devices that the nodes of a process name."""


def main() -> int:
    """Measure the files that the command line names, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', type=Path, metavar='MODEL',
                        help='model files, exported or not')
    parser.add_argument('--backend', default='auto', help='(default: %(default)s)')
    parser.add_argument('--repeats', type=int, default=3, help='(default: %(default)s)')
    parser.add_argument('--devices', nargs='+', help=argparse.SUPPRESS)  # of one process's nodes
    options = parser.parse_args()
    stay_alone()
    if options.devices:
        print(memory_of(options.models[0], options.backend, options.devices))
        return 0
    print(f'| model | {" | ".join(f"{name}, MB" for name in COMPOSITIONS)} |\n'
          f'|---|{"--:|" * len(COMPOSITIONS)}')
    for path in options.models:
        medians = [np.median([memory_of_another(path, options.backend, devices)
                              for _ in range(options.repeats)])
                   for devices in COMPOSITIONS.values()]
        print(f'| {path.name} | {" | ".join(f"{median:.0f}" for median in medians)} |')
    return 0


def memory_of_another(model: Path, backend: str, devices: list[str]) -> float:
    """Return the MB of a new process with a node for each device."""
    return float(subprocess.run(
        [sys.executable, __file__, str(model), '--backend', backend, '--devices', *devices],
        check=True, capture_output=True, text=True).stdout)


def memory_of(model: Path, backend: str, devices: list[str]) -> float:
    """Return the MB of this process with a node for each device."""
    rclpy.init()
    nodes = [SegmentationNode(f'camera_{number}', parameter_overrides=[
        Parameter(name, value=value) for name, value in {
            'model': str(model), 'backend': backend, 'device': device}.items()])
        for number, device in enumerate(devices)]
    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    for node in nodes:
        if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            raise SystemExit(1)  # the node's log says why
    for _ in range(5):
        for node in nodes:
            assert node._segmenter is not None  # since it is configured
            node._segmenter(image, confidence=True)
    memory = resident_megabytes(os.getpid())
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()
    return memory


if __name__ == '__main__':
    sys.exit(main())
