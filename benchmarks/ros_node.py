"""
What the segmentation node costs, how old its masks are, and what it bears.

  python benchmarks/ros_node.py cost         its own time a frame, beside inference
  python benchmarks/ros_node.py throughput   frames lost in 60 s, inference a no-op
  python benchmarks/ros_node.py age          age of the masks when inference takes long
  python benchmarks/ros_node.py switches     1000 switches of the domain under load
  python benchmarks/ros_node.py memory       growth over 10 000 frames
  python benchmarks/ros_node.py malformed    10 000 broken images
  python benchmarks/ros_node.py decoding     reading an image of each encoding
  python benchmarks/ros_node.py profile      images lost with the DDS profile on one side or both
  python benchmarks/ros_node.py player       how steadily image_player sends a folder of JPEGs

Camera, node and consumer are processes of their own. Images are 1280×720 rgb8; camera and node use
the package's Fast DDS profile. The model is a random one of the light encoder, unless inference is
replaced: by nothing, or by a sleep.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import json
import os
from pathlib import Path
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
import torch
from univseg_core.domains import Domain
from univseg_core.inference.segmenter import Segmentation, Segmenter
from univseg_core.models.model_file import ModelCard, save_model
from univseg_core.models.universal import ModelSpec, UniversalSegmenter
from univseg_core.pictures.encodings import ENCODINGS
from univseg_core.pictures.image_messages import decode, nanoseconds
from univseg_ros.messages import rgb_message

HEIGHT, WIDTH = 720, 1280
PROFILE = Path(__file__).parents[1] / 'config' / 'ros' / 'fastdds_large_images.xml'
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
"""Those of Fast DDS 2 and 3."""

DOMAINS = ('outdoor', 'indoor')
DEADLINE = 60.0


def run_camera(rate: float, count: int, reliability: str, waits: bool) -> None:
    """Publish `count` images at `rate` Hz, or wait for a subscriber before; print their stamps."""
    rclpy.init()
    node = Node('camera')
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()])
    publisher = node.create_publisher(Image, 'image', qos)
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
    torch.manual_seed(0)
    classes = [f'class{index}' for index in range(13)]
    model = UniversalSegmenter(ModelSpec(encoder='light', embedding_dim=8),
                               [Domain.create(name, classes) for name in DOMAINS])
    path = folder / 'random.univseg'
    save_model(path, model, ModelCard(image_size=480))
    return path


class Consumer:
    """The benchmark's own node: it receives masks and diagnostics and sets parameters."""

    def __init__(self, domains: Sequence[str] = DOMAINS[:1]):
        self.node = Node('consumer')
        self.masks: dict[str, list[tuple[int, int, int]]] = {name: [] for name in domains}
        """Stamp, time of arrival in ns, and first pixel of each mask."""
        self.diagnostics: list[dict[str, str]] = []
        for name in domains:
            self.node.create_subscription(
                Image, f'univseg/{name}/mask',
                lambda message, name=name: self.masks[name].append(
                    (stamp_of(message), self.node.get_clock().now().nanoseconds,
                     message.data[0])), QoSProfile(depth=100))
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)
        self.parameters = self.node.create_client(SetParameters, 'univseg/set_parameters')

    def _diagnose(self, message: DiagnosticArray) -> None:
        self.diagnostics.append({item.key: item.value for item in message.status[0].values})

    def wait(self, condition, what: str, seconds: float = DEADLINE) -> None:
        """Handle what comes until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                sys.exit(f'waited {seconds:.0f} s in vain: {what}')
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def wait_for(self, process: subprocess.Popen, seconds: float) -> None:
        """Handle what comes until a process ends."""
        self.wait(lambda: process.poll() is not None, 'the end of the camera', seconds)

    def set_domains(self, names: Sequence[str]):
        """Ask for other active domains; return the future."""
        return self.parameters.call_async(SetParameters.Request(parameters=[
            Parameter('active_domains', value=list(names)).to_parameter_msg()]))


def stamp_of(message: Image | CompressedImage) -> int:
    """Return a header stamp in nanoseconds."""
    return nanoseconds(message.header.stamp)


def start(*arguments: str, **options) -> subprocess.Popen:
    """Start this file as another process."""
    return subprocess.Popen([sys.executable, __file__, *map(str, arguments)], **options)


def start_camera(rate: float, seconds: float, reliability: str = 'best_effort',
                 waits: bool = True):
    """Start a camera as a process, which waits for a subscriber or not."""
    return start('camera', rate, round(rate * seconds), reliability, *['waits'] * waits,
                 stdout=subprocess.PIPE, text=True)


@contextmanager
def running_node(inference: str, folder: Path, *parameters: str) -> Iterator[subprocess.Popen]:
    """Run the node as a process; its log goes to a file. It must end with exit code 0."""
    arguments = [item for value in (f'model:={make_model(folder)}', *parameters)
                 for item in ('-p', value)]
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
    print('  ' + re.search(r'stopped; frames: .*', text)[0])
    if code or 'Traceback' in text:
        sys.exit(f'the node ended with exit code {code}:\n{text}')


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


def measure_switches(folder: Path, count: int) -> None:
    """Switch domains a hundred times a second under load; print what went wrong."""
    sets = [['outdoor'], ['indoor'], ['outdoor', 'indoor'], ['indoor', 'outdoor']]
    consumer = Consumer(DOMAINS)
    random.seed(0)
    with running_node('0.01', folder):
        camera = start_camera(30, count / 100 + 5)
        consumer.wait(lambda: any(consumer.masks.values()), 'a first mask')
        begin = time.monotonic()
        for index in range(count):
            consumer.wait(lambda index=index: time.monotonic() >= begin + index / 100, 'the time')
            answer = consumer.set_domains(random.choice(sets))
            consumer.wait(answer.done, 'an answer')
            assert answer.result().results[0].successful
        took = time.monotonic() - begin
        consumer.set_domains(DOMAINS)
        consumer.wait_for(camera, DEADLINE)
    sent = json.loads(camera.stdout.read())['stamps']
    stamps = {name: [stamp for stamp, *_ in masks] for name, masks in consumer.masks.items()}
    without = set(sent) - {stamp for each in stamps.values() for stamp in each}
    twice = sum(len(each) - len(set(each)) for each in stamps.values())
    asked = re.findall(r'^asked for (.*)', (folder / 'node.log').read_text(), re.MULTILINE)
    missing = sum(' '.join(asked).split().count(name) - len(each)
                  for name, each in stamps.items())
    wrong = sum(pixel != DOMAINS.index(name) for name, masks in consumer.masks.items()
                for *_, pixel in masks)
    print(f'{count} switches in {took:.1f} s; {len(sent)} frames sent, {len(without)} without a '
          f'mask, {missing} masks missing in a set, {twice} twice, {wrong} under a wrong domain')
    consumer.node.destroy_node()


def measure_memory(folder: Path, count: int) -> None:
    """Print the node's resident memory over `count` published frames of the real model."""
    consumer = Consumer()
    with running_node('model', folder, 'inference_size:=160') as node:
        camera = start_camera(60, 10 * count / 60, 'reliable')
        masks = consumer.masks['outdoor']
        first = None
        for milestone in range(0, count + 1001, 1000):
            consumer.wait(lambda milestone=milestone: len(masks) >= milestone, 'masks', 600)
            resident = resident_megabytes(node.pid)
            if milestone == 1000:
                first = resident
            print(f'  {len(masks):6} frames: {resident:.1f} MB', flush=True)
        camera.kill()
        camera.wait()
        before = resident_megabytes(node.pid)
        client = consumer.node.create_client(ChangeState, 'univseg/change_state')
        for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            answer = client.call_async(
                ChangeState.Request(transition=Transition(id=transition)))
            consumer.wait(answer.done, 'a transition')
        print(f'given back by deactivate and cleanup: '
              f'{before - resident_megabytes(node.pid):.1f} MB')
    print(f'growth over {count} frames after the first 1000: {resident - first:.1f} MB')
    consumer.node.destroy_node()


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process that is its own, without shared segments, in MB."""
    fields = Path(f'/proc/{pid}/statm').read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf('SC_PAGESIZE') / 1e6


def random_message(rng: random.Random) -> Image:
    """Return an image message in which something or everything is wrong, or nothing."""
    encoding = rng.choice([*ENCODINGS, '', 'rgb9', '16UC1', 'x' * 300, 'bayer_rggb32'])
    side = [0, 1, 2, 3, 7, 16, 33, 64, 2**16, 2**31, 2**32 - 1]
    height, width = rng.choice(side), rng.choice(side)
    if rng.random() < 0.6:
        height, width = rng.choice(side[1:8]), rng.choice(side[1:8])
    step = rng.choice([0, 1, width, 3 * width, 4 * width, 8 * width, 2**32 - 1])
    step = min(step, 2**32 - 1)
    size = min(height * step, 1 << 16) + rng.choice([0, 0, 0, -1, 1, 100])
    message = Image(height=height, width=width, step=step, encoding=encoding,
                    is_bigendian=rng.randrange(256), data=rng.randbytes(max(0, size)))
    message.header.stamp.sec = rng.choice([0, -2**31, 2**31 - 1, 1])
    message.header.stamp.nanosec = rng.choice([0, 2**32 - 1, 10**9])
    message.header.frame_id = rng.choice(['', 'camera', 'x' * 5000, 'ü'])
    return message


def measure_malformed(folder: Path, count: int) -> None:
    """Send broken images, each tenth one followed by a good one that must be served."""
    consumer = Consumer()
    rng = random.Random(0)
    publisher = consumer.node.create_publisher(Image, 'image', QoSProfile(depth=100))
    good = rgb_message(np.zeros((48, 64, 3), np.uint8), Header())
    with running_node('model', folder, 'depth:=100', 'inference_size:=64') as node:
        consumer.wait(publisher.get_subscription_count, 'the node')
        served = 0
        for index in range(count):
            publisher.publish(random_message(rng))
            time.sleep(0.004)
            if index % 10 == 9:
                good.header.stamp.sec = 1000 + index
                publisher.publish(good)
                stamp = stamp_of(good)
                masks = consumer.masks['outdoor']
                consumer.wait(lambda masks=masks, stamp=stamp: any(
                    mask[0] == stamp for mask in masks), 'the mask of a good image')
                masks.clear()
                served += 1
            if node.poll() is not None:
                sys.exit('the node crashed')
    print(f'{count} malformed and {served} good images sent; each good one was served')
    consumer.node.destroy_node()


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


def measure_profile(folder: Path, count: int) -> None:
    """Print how many images arrive, best effort and depth 1, with the profile here and there."""
    plain = {key: value for key, value in os.environ.items() if key not in PROFILE_VARIABLES}
    profiled = {**plain, **dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))}
    for who, receiver_has, camera_has in (
            ('nobody', plain, plain), ('receiver', profiled, plain),
            ('camera', plain, profiled), ('both', profiled, profiled)):
        receiver = start('receiver', count, count / 30 + 20, stdout=subprocess.PIPE, text=True,
                         env=receiver_has)
        camera = start('camera', 30, count, 'best_effort', 'waits', stdout=subprocess.PIPE,
                       text=True, env=camera_has)
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


MEASUREMENTS = {
    # With how many seconds, switches, frames, images or repetitions.
    'cost': (measure_cost, 20), 'throughput': (measure_throughput, 60), 'age': (measure_age, 10),
    'switches': (measure_switches, 1000), 'memory': (measure_memory, 10_000),
    'malformed': (measure_malformed, 10_000), 'decoding': (measure_decoding, 100),
    'profile': (measure_profile, 150), 'player': (measure_player, 20),
}


def stay_alone() -> None:
    """Keep what this process starts to this machine and a ROS domain, with the DDS profile."""
    for variable in PROFILE_VARIABLES:
        os.environ.setdefault(variable, str(PROFILE))
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=MEASUREMENTS, help='what to measure')
    parser.add_argument('--scale', type=float, default=1.0,
                        help='multiplies how long it takes (default: %(default)s)')
    options = parser.parse_args()
    measure, amount = MEASUREMENTS[options.what]
    stay_alone()
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), max(1, round(amount * options.scale)))
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    if sys.argv[1:2] == ['camera']:
        run_camera(float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], 'waits' in sys.argv)
    elif sys.argv[1:2] == ['receiver']:
        run_receiver(int(sys.argv[2]), float(sys.argv[3]))
    elif sys.argv[1:2] == ['node']:
        sys.exit(run_node(sys.argv[2], sys.argv[3:]))
    else:
        sys.exit(main())
