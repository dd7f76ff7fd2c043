"""
The whole product in a few minutes, on data made here: `make demo`.

Two synthetic worlds → one model, trained and measured beside what it must beat → the node as a
process, a camera as another, and a switch from outdoor to indoor while the camera streams.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import hashlib
import json
import logging
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from univseg_core.baselines import random_forest
from univseg_core.config import load_config, RunConfig
from univseg_core.data.dataset import load_data
from univseg_core.data.scenes.worlds import write_worlds
from univseg_core.evaluation import DomainResult
from univseg_core.figures import overlay, panel
from univseg_core.files import write_text
from univseg_core.images import read_image, write_png
from univseg_core.inference import Segmenter
from univseg_core.training import train
from univseg_ros.messages import decode

log = logging.getLogger('demo')

FRAMES = 20
"""Frames of each world that the camera streams, at RATE Hz."""
RATE = 5.0
DEADLINE = 60.0
"""Seconds to wait for anything of ROS before giving up."""


class DemoError(RuntimeError):
    """Something did not come back as promised."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 if everything came back as promised."""
    parser = argparse.ArgumentParser(prog='make demo', description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('demo_output'))
    out = parser.parse_args(arguments).out
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    started = time.monotonic()
    for part in ('worlds', 'run', 'frames', 'pictures'):
        shutil.rmtree(out / part, ignore_errors=True)

    heading(1, 'two synthetic worlds, few labels')
    write_worlds(out / 'worlds', train=400, validation=60, labelled=100)
    os.environ['UNIVSEG_DATA'] = str(out / 'worlds')
    config = load_config('train/scenes.yaml')

    heading(2, 'training: a network for each world alone, then one for both')
    results = train(config, out / 'run')
    table = comparison(config, out / 'run', results)

    heading(3, 'the node, a camera, and a switch while it streams')
    worlds = choose_frames(config, out / 'frames')
    seen = switch_heads(out / 'run' / 'model.univseg', out / 'frames')
    pictures(out, config, seen, worlds)
    report = f'{table}\n\n{seen.check(out / "run" / "model.univseg")}'
    write_text(out / 'report.md', report + '\n')

    heading(4, f'done in {time.monotonic() - started:.0f} s')
    print(f'{report}\n\nPictures: {out / "pictures"}\nModel:    {out / "run/model.univseg"}')
    return 0


def heading(number: int, text: str) -> None:
    """Print what comes next."""
    print(f'\n── {number}. {text} ' + '─' * max(0, 76 - len(text)), flush=True)


def comparison(config: RunConfig, run: Path, results: dict[str, DomainResult]) -> str:
    """Return a table of mIoUs: the universal model beside what it must beat."""
    lines = ['| mIoU % | ' + ' | '.join(results) + ' |', '|---|' + '--:|' * len(results)]

    def row(title: str, values: Sequence[float]) -> str:
        return f'| {title} | ' + ' | '.join(f'{100 * value:.1f}' for value in values) + ' |'

    forests = [random_forest(data, config.data.image_size) for data in load_data(config).values()]
    alone = [json.loads((run / 'supervised' / name / 'evaluation.json').read_text())[name]['miou']
             for name in results]
    lines += [row('random forest on colour and location', [f.miou for f in forests]),
              row(f'a network for each world alone, {config.label_embeddings.pretrain_steps} '
                  'steps each', alone),
              row(f'**the universal model**, one for both, {config.training.steps} steps',
                  [result.miou for result in results.values()])]
    return '\n'.join(lines)


def choose_frames(config: RunConfig, folder: Path) -> dict[str, str]:
    """Copy validation images of both worlds into one folder; map each content to its world."""
    worlds = {}
    folder.mkdir(parents=True)
    for name, section in config.domains.items():
        for path in sorted(section.validation.images.iterdir())[:FRAMES]:
            # Sorted by name, the two worlds take turns.
            shutil.copy(path, folder / f'{path.stem}_{name}{path.suffix}')
            worlds[content_hash(read_image(path))] = name
    return worlds


def content_hash(image: np.ndarray) -> str:
    """Return a hash of an image's pixels (H, W, 3) uint8."""
    return hashlib.sha256(image.tobytes()).hexdigest()


@dataclass
class Switch:
    """
    What an observer saw: images by stamp, masks by stamp for each domain, and when it switched.

    Stamps are in nanoseconds; `asked` and `answered` are the times of the parameter call.
    """

    images: dict[int, Image] = field(default_factory=dict)
    masks: dict[str, dict[int, Image]] = field(default_factory=dict)
    first_mask_after: int = 0
    asked: int = 0
    answered: int = 0

    def check(self, model: Path) -> str:
        """Return a table of what came back; raise DemoError where it is not as promised."""
        segmenter = Segmenter.load(model)
        agreement = []
        for stamp, image in self.images.items():
            found = [name for name, masks in self.masks.items() if stamp in masks]
            expect(len(found) == 1, f'frame {stamp}: masks of {found}; expected one domain')
            mask = self.masks[found[0]][stamp]
            expect((mask.height, mask.width, mask.header.frame_id)
                   == (image.height, image.width, image.header.frame_id),
                   f'frame {stamp}: its mask has another size or frame_id')
            if stamp < self.asked or stamp > self.answered:
                right = 'outdoor' if stamp < self.asked else 'indoor'
                # A frame taken before the call may be processed after it.
                expect(found == [right] or self.asked - stamp < 1e9,
                       f'frame {stamp}: mask of {found[0]}; expected {right}')
            offline = segmenter(decode(image), found)[found[0]].mask
            agreement.append((pixels(mask) == offline).mean())
        expect(min(agreement) > 0.999, 'a mask differs from the one computed without ROS')
        before = {name: sum(s < self.asked for s in masks) for name, masks in self.masks.items()}
        after = {name: len(masks) - before[name] for name, masks in self.masks.items()}
        lines = ['| masks that came back | ' + ' | '.join(self.masks) + ' |',
                 '|---|' + '--:|' * len(self.masks),
                 '| frames before the switch | ' + ' | '.join(map(str, before.values())) + ' |',
                 '| frames after the switch | ' + ' | '.join(map(str, after.values())) + ' |', '',
                 f'{len(self.images)} frames streamed, {len(self.images)} masks, none lost, none '
                 f'twice; {100 * np.mean(agreement):.2f} % of their pixels as computed without '
                 f'ROS.',
                 f'The parameter call took {(self.answered - self.asked) / 1e6:.0f} ms; the first '
                 f'indoor mask came {(self.first_mask_after - self.asked) / 1e6:.0f} ms after it '
                 f'was made, at {RATE:.0f} frames a second.']
        return '\n'.join(lines)


def expect(condition: bool, failure: str) -> None:
    """Raise DemoError unless a condition holds."""
    if not condition:
        raise DemoError(failure)


def pixels(mask: Image) -> np.ndarray:
    """Return a mono8 mask's class indices (H, W) uint8."""
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)


def switch_heads(model: Path, frames: Path) -> Switch:
    """Start node and camera as processes, switch heads half-way through, and watch."""
    # A ROS network of its own, on this machine only.
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    total = len(list(frames.iterdir()))
    seen = Switch(masks={'outdoor': {}, 'indoor': {}})
    rclpy.init()
    observer = Node('demo_observer')
    try:
        qos = QoSProfile(depth=total)
        observer.create_subscription(
            Image, 'image', lambda m: seen.images.setdefault(stamp_of(m), m), qos)
        for name in seen.masks:
            observer.create_subscription(
                Image, f'univseg/{name}/mask', mask_keeper(observer, seen, name), qos)
        client = observer.create_client(SetParameters, 'univseg/set_parameters')
        with process('segmentation_node', '--ros-args', '-p', f'model:={model}',
                     '-p', "active_domains:=['outdoor']",
                     '-p', 'reliability:=reliable') as node:
            spin_until(observer, lambda: observer.count_subscribers('image') == 2, node)
            with process('image_player', str(frames), '--rate', str(RATE),
                         '--wait-for-subscribers', '2', '--frame-id', 'demo_camera'):
                spin_until(observer, lambda: len(seen.masks['outdoor']) >= total // 2, node)
                seen.asked = now(observer)
                answer = client.call_async(set_active_domains(['indoor']))
                spin_until(observer, answer.done, node)
                seen.answered = now(observer)
                expect(answer.result().results[0].successful, answer.result().results[0].reason)
                log.info("active_domains is now ['indoor']; the camera goes on streaming")
                spin_until(observer, lambda: sum(map(len, seen.masks.values())) >= total, node)
    finally:
        observer.destroy_node()
        rclpy.try_shutdown()
    return seen


def mask_keeper(observer: Node, seen: Switch, name: str) -> Callable[[Image], None]:
    """Return a callback that keeps one domain's masks."""
    def keep(message: Image) -> None:
        stamp = stamp_of(message)
        expect(stamp not in seen.masks[name], f'frame {stamp}: two masks of {name}')
        seen.masks[name][stamp] = message
        if name == 'indoor' and not seen.first_mask_after:
            seen.first_mask_after = now(observer)
    return keep


def stamp_of(message: Image) -> int:
    """Return a message's header stamp in nanoseconds."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def now(node: Node) -> int:
    """Return ROS time in nanoseconds."""
    return node.get_clock().now().nanoseconds


def set_active_domains(names: list[str]) -> SetParameters.Request:
    """Return the request that makes some domains the active ones."""
    value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=names)
    return SetParameters.Request(
        parameters=[ParameterMessage(name='active_domains', value=value)])


def spin_until(node: Node, condition: Callable[[], bool], watched: subprocess.Popen) -> None:
    """Spin until a condition holds; raise DemoError at the deadline or if a process ended."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        expect(watched.poll() is None, f'the node ended with exit code {watched.returncode}')
        expect(time.monotonic() < deadline, f'nothing came for {DEADLINE:.0f} s')
        rclpy.spin_once(node, timeout_sec=0.1)


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """Run one of the package's executables as a process; interrupt it at the end."""
    running = subprocess.Popen([sys.executable, '-m', f'univseg_ros.{module}', *arguments])
    try:
        yield running
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(DEADLINE)


def pictures(out: Path, config: RunConfig, seen: Switch, worlds: dict[str, str]) -> None:
    """Put the validation panels, and masks that came back over ROS, into one folder."""
    (out / 'pictures').mkdir()
    for name in config.domains:
        domain = config.domain(name)
        shutil.copy(out / 'run' / f'{name}.png', out / 'pictures')
        rows = []
        for stamp, mask in seen.masks[name].items():
            image = decode(seen.images[stamp])
            if worlds[content_hash(image)] == name and len(rows) < 4:
                rows.append([image, overlay(image, pixels(mask), domain)])
        write_png(out / 'pictures' / f'ros_{name}.png',
                  panel(rows, ['camera image', f'{name} mask over ROS'], domain))


if __name__ == '__main__':
    sys.exit(main())
