"""What a frame takes: the node's own time, frames without a mask, the age of masks."""

import json
from pathlib import Path

from measured_node.consumer import Consumer
from measured_node.processes import DEADLINE, running_node, start_camera
import numpy as np


def measure_cost(folder: Path, seconds: float) -> None:
    """Print the node's own time a frame, as its diagnostics tell it."""
    for inference in ('model', '0'):
        consumer = Consumer()
        with running_node(inference, folder):
            camera = start_camera(30, seconds)
            consumer.wait_for(camera, seconds + DEADLINE)
            values = consumer.diagnostics[-3]  # the camera ends a second before its process
        print(f'inference {"by the model" if inference == "model" else "a no-op"}:')
        for key, value in values.items():
            if '[ms]' in key or '[Hz]' in key:
                print(f'  {key} {value}')
        consumer.node.destroy_node()


def measure_throughput(folder: Path, seconds: float) -> None:
    """Print how many frames of a 30 Hz camera get no mask where inference takes no time."""
    for reliability in ('best_effort', 'reliable'):
        consumer = Consumer()
        with running_node('0', folder):
            camera = start_camera(30, seconds, reliability)
            consumer.wait_for(camera, seconds + DEADLINE)
        sent = json.loads(camera.stdout.read())
        masks = {stamp for stamp, *_ in consumer.masks['outdoor']}
        lost = set(sent['stamps']) - masks
        print(f'{reliability}: {len(sent["stamps"])} frames sent in {sent["seconds"]:.1f} s, '
              f'{len(lost)} without a mask')
        consumer.node.destroy_node()


def measure_age(folder: Path, seconds: float) -> None:
    """Print the age of masks on arrival at a consumer for some inference times and rates."""
    print('T [ms]  camera [Hz]  masks  age: median  99th percentile [ms]  2 T + 10')
    for inference in (0.02, 0.05, 0.1, 0.2):
        for rate in (5, 10, 15, 30, 60):
            consumer = Consumer()
            with running_node(str(inference), folder):
                camera = start_camera(rate, seconds)
                consumer.wait_for(camera, seconds + DEADLINE)
            ages = [(arrival - stamp) / 1e6 for stamp, arrival, _ in consumer.masks['outdoor']]
            median, percentile = np.percentile(ages, (50, 99))
            print(f'{1000 * inference:6.0f}  {rate:11}  {len(ages):5}  {median:11.1f}  '
                  f'{percentile:20.1f}  {2000 * inference + 10:8.0f}', flush=True)
            consumer.node.destroy_node()
