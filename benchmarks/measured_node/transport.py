"""How images travel without the node: by the DDS profile, from image_player."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import cv2
from measured_node.processes import (
    DEADLINE,
    HEIGHT,
    PROFILE,
    PROFILE_VARIABLES,
    stamp_of,
    start,
    start_camera,
    WIDTH,
)
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image


def measure_profile(folder: Path, count: int) -> None:
    """Print how many images arrive, best effort and depth 1, with the profile here and there."""
    plain = {key: value for key, value in os.environ.items() if key not in PROFILE_VARIABLES}
    profiled = {**plain, **dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))}
    for who, receiver_has, camera_has in (
            ('nobody', plain, plain), ('receiver', profiled, plain),
            ('camera', plain, profiled), ('both', profiled, profiled)):
        receiver = start('receiver', count, count / 30 + 20, stdout=subprocess.PIPE, text=True,
                         env=receiver_has)
        camera = start_camera(30, count / 30, env=camera_has)
        camera.wait()
        arrived = json.loads(receiver.communicate()[0])
        print(f'profile given to {who:9} {len(arrived):4} of {count} arrived', flush=True)


def measure_player(folder: Path, seconds: float) -> None:
    """Print the intervals between the stamps of images that image_player sends at 30 Hz."""
    rng = np.random.default_rng(0)
    for index in range(30):
        small = rng.integers(0, 256, (45, 80, 3), np.uint8)
        cv2.imwrite(str(folder / f'{index:02}.jpg'), cv2.resize(small, (WIDTH, HEIGHT)))
    for option in ('--raw', '--compressed'):
        type_, suffix = (Image, '') if option == '--raw' else (CompressedImage, '/compressed')
        node, stamps = Node('watcher'), []
        node.create_subscription(type_, f'image{suffix}',
                                 lambda message, stamps=stamps: stamps.append(stamp_of(message)),
                                 QoSProfile(depth=10))
        player = subprocess.Popen([sys.executable, '-m', 'univseg_ros.image_player', str(folder),
                                   option, '--rate', '30', '--loop'])
        end = time.monotonic() + seconds + 3
        while time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=0.1)
        player.send_signal(signal.SIGINT)
        player.wait(DEADLINE)
        intervals = np.diff(stamps) / 1e6
        low, high = np.percentile(intervals, (1, 99))
        print(f'{option:12} {1000 / intervals.mean():.3f} Hz, intervals {low:.1f} to {high:.1f} '
              f'ms (1st to 99th percentile), {len(stamps)} images')
        node.destroy_node()
