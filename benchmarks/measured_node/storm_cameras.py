"""Cameras in a storm: they send pictures of places, move, vanish and come back."""

import random

from measured_node.made_up_places import noise, view
from measured_node.processes import stamp_of
from measured_node.storm_outputs import Watch
from measured_node.storm_truth import CAMERAS, DOMAINS
import numpy as np
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from univseg_ros.messages import rgb_message
from univseg_ros.qos import no_warning

RATE = 30.0
"""Images a second of each camera."""

VIEWS = 3
"""Pictures of each place that a camera shows in turn; no other camera has them."""

PLACES = (*DOMAINS, 'nowhere')


class Cameras:
    """Publishers of CAMERAS below a namespace, the first two of which are there at first."""

    def __init__(self, node: Node, namespace: str, watch: Watch, chance: random.Random):
        self.silent = False
        self._node, self._namespace, self._watch, self._chance = node, namespace, watch, chance
        self._messages = [rgb_message(picture, Header(frame_id='camera'))
                          for picture in watch.pictures]
        self._places = dict.fromkeys(CAMERAS, 'outdoor')
        self._publishers: dict[str, Publisher] = {}
        self._turn = 0
        for camera in CAMERAS[:2]:
            self.come_or_vanish(camera)
        node.create_timer(1 / RATE, self._send)

    def come_or_vanish(self, camera: str) -> None:
        """Let a camera vanish that is there, or come back with any reliability."""
        if camera in self._publishers:
            self._node.destroy_publisher(self._publishers.pop(camera))
            return
        reliability = self._chance.choice((ReliabilityPolicy.RELIABLE,
                                           ReliabilityPolicy.BEST_EFFORT))
        self._publishers[camera] = self._node.create_publisher(
            Image, f'{self._namespace}/{camera}/image',
            QoSProfile(depth=2, reliability=reliability),
            event_callbacks=PublisherEventCallbacks(incompatible_qos=no_warning))

    def move(self) -> None:
        """Take a camera to some place, mostly one of the domains."""
        self._places[self._chance.choice(CAMERAS)] = self._chance.choice((*PLACES, *DOMAINS))

    def _send(self) -> None:
        if self.silent:
            return
        self._turn += 1
        for camera, publisher in self._publishers.items():
            place = CAMERAS.index(camera) * len(PLACES) + PLACES.index(self._places[camera])
            picture = VIEWS * place + self._turn % VIEWS
            message = self._messages[picture]
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._watch.send(camera, stamp_of(message), picture)
            publisher.publish(message)


def all_pictures() -> list[np.ndarray]:
    """Return the pictures (48, 64, 3) uint8 that CAMERAS show: VIEWS of PLACES of each."""
    return [noise(number) if place == 'nowhere' else view(place, number)
            for index in range(len(CAMERAS)) for place in PLACES
            for number in range(VIEWS * index, VIEWS * (index + 1))]
