"""
The processes of a measurement: a camera, the node, one that only receives.

Each is this file, started with its name and arguments.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import json
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmentation, Segmenter
from univseg_core.pictures.image_messages import nanoseconds
from univseg_ros.messages import rgb_message

HEIGHT, WIDTH = 720, 1280
PROFILE = Path(__file__).parents[2] / 'config' / 'ros' / 'fastdds_large_images.xml'
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Those of Fast DDS 2 and 3."""

DOMAINS = ('outdoor', 'indoor')
DEADLINE = 60.0


def run_camera(rate: float, count: int, reliability: str, topic: str, waits: bool) -> None:
    """Publish images at `rate` Hz, once there is a subscriber if it `waits`; print the stamps."""
    rclpy.init()
    node = Node('camera')
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, topic, qos)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    message = rgb_message(picture, Header(frame_id='camera'))
    while waits and not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)
    stamps, begin = [], time.monotonic()
    for index in range(count):
        time.sleep(max(0.0, begin + index / rate - time.monotonic()))
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
        stamps.append(stamp_of(message))
    time.sleep(1.0)
    print(json.dumps({'stamps': stamps, 'seconds': time.monotonic() - begin - 1.0}))


def run_receiver(count: int, seconds: float) -> None:
    """Receive images, best effort, for some seconds or until all came; print how many."""
    rclpy.init()
    node = Node('receiver')
    seen = []
    node.create_subscription(Image, 'image', lambda message: seen.append(stamp_of(message)),
                             QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    end = time.monotonic() + seconds
    while len(seen) < count and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    print(json.dumps(seen))


def run_node(inference: str, arguments: Sequence[str]) -> int:
    """Run the node; `inference` is model, or the seconds that its stand-in sleeps."""
    from univseg_ros import segmentation_node
    if inference != 'model':
        seconds = float(inference)
        masks = [np.full((HEIGHT, WIDTH), index, np.uint8) for index in range(len(DOMAINS))]

        def stand_in(self, image, domains=DOMAINS, **options):
            time.sleep(seconds)
            if image.shape[0] == HEIGHT:  # not the warm-up
                print('asked for', *domains, flush=True)
            return {name: Segmentation(masks[DOMAINS.index(name)]) for name in domains}

        Segmenter.__call__ = stand_in
    return segmentation_node.main([sys.argv[0], '--ros-args', *arguments])


def make_model(folder: Path) -> Path:
    """Write a random model of the light encoder with two domains of 13 classes."""
    # PyTorch is not to be in the memory of a node that does without.
    import torch
    from univseg_core.models.model_file import ModelCard, save_model
    from univseg_core.models.universal import ModelSpec, UniversalSegmenter

    torch.manual_seed(0)
    classes = [f'class{index}' for index in range(13)]
    model = UniversalSegmenter(ModelSpec(encoder='light', embedding_dim=8),
                               [Domain.create(name, classes) for name in DOMAINS])
    path = folder / 'random.univseg'
    save_model(path, model, ModelCard(image_size=480))
    return path


def stamp_of(message: Image | CompressedImage) -> int:
    """Return a header stamp in nanoseconds."""
    return nanoseconds(message.header.stamp)


def start(*arguments: str, **options) -> subprocess.Popen:
    """Start this file as another process."""
    return subprocess.Popen([sys.executable, __file__, *map(str, arguments)], **options)


def start_camera(rate: float, seconds: float, reliability: str = 'best_effort',
                 topic: str = 'image', waits: bool = True, **options):
    """Start a camera as a process, which waits for a subscriber or not."""
    return start('camera', rate, round(rate * seconds), reliability, topic, *['waits'] * waits,
                 stdout=subprocess.PIPE, text=True, **options)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, of all its threads."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def resident_megabytes(pid: int, *, with_shared: bool = False) -> float:
    """Return the resident memory of a process in MB, with or without what others have, too."""
    resident, shared = Path(f'/proc/{pid}/statm').read_text(encoding='ascii').split()[1:3]
    pages = int(resident) - (0 if with_shared else int(shared))
    return pages * os.sysconf('SC_PAGESIZE') / 1e6


@contextmanager
def running_node(inference: str, folder: Path, *parameters: str, model: Path | None = None,
                 arguments: Sequence[str] = (), tell: bool = True) -> Iterator[subprocess.Popen]:
    """
    Run the node as a process; its log goes to a file. It must end with exit code 0.

    The model is a random one unless it is named; `arguments` are further ones of ROS. At the end,
    `tell` prints what became of the frames.
    """
    arguments = [*arguments, *(item for value in (f'model:={model or make_model(folder)}',
                                                  *parameters) for item in ('-p', value))]
    log = folder / 'node.log'
    with log.open('w') as output:
        process = start('node', inference, *arguments, stdout=output, stderr=output)
        try:
            end = time.monotonic() + DEADLINE
            while 'active; domains' not in log.read_text():
                if time.monotonic() > end or process.poll() is not None:
                    sys.exit(f'the node does not come up:\n{log.read_text()}')
                time.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(DEADLINE)
    text = log.read_text()
    for line in re.findall(r'(\S*:? ?stopped; frames: .*)', text) if tell else ():
        print(f'  {line}')
    if code or 'Traceback' in text:
        sys.exit(f'the node ended with exit code {code}:\n{text}')


def stay_alone() -> None:
    """Keep what this process starts to this machine and a ROS domain, with the DDS profile."""
    for variable in PROFILE_VARIABLES:
        os.environ.setdefault(variable, str(PROFILE))
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'


if __name__ == '__main__':
    if sys.argv[1] == 'camera':
        run_camera(float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5],
                   'waits' in sys.argv)
    elif sys.argv[1] == 'receiver':
        run_receiver(int(sys.argv[2]), float(sys.argv[3]))
    else:
        sys.exit(run_node(sys.argv[2], sys.argv[3:]))
