"""What the node bears: switches under load, many frames, broken images."""

import json
from pathlib import Path
import random
import re
import sys
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from measured_node.consumer import Consumer
from measured_node.processes import (
    DEADLINE,
    DOMAINS,
    resident_megabytes,
    running_node,
    stamp_of,
    start_camera,
)
import numpy as np
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from univseg_core.pictures.encodings import ENCODINGS
from univseg_ros.messages import rgb_message


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
