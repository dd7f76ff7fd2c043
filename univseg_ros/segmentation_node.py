"""The node: camera images in, masks of the active domains out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
import functools
import gc
import json
from pathlib import Path
import sys
import threading
import traceback

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
import torch
from univseg_core.domains import Domain, IGNORE_INDEX
from univseg_core.inference import Segmenter
from univseg_ros.image_input import ImageInput
from univseg_ros.mailbox import Mailbox
from univseg_ros.messages import decode, mask_message, MessageError
from univseg_ros.parameters import declare, FIRST_DOMAIN, objection
from univseg_ros.signals import ros_until_signal, spin

NODE_NAME = 'univseg'
WARM_UP_SIZE = (480, 640)
LOG_PERIOD = 5.0
"""Seconds between two messages about frames that could not be used."""

LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _reported(transition):
    """Log what a transition raises: rclpy goes to error processing without a word."""
    @functools.wraps(transition)
    def reporting(self, state):
        try:
            return transition(self, state)
        except Exception:
            self.get_logger().error(f'{transition.__name__} failed:\n{traceback.format_exc()}')
            raise
    return reporting


@dataclass
class FrameCounts:
    """
    What became of the frames since the node was last activated.

    Those taken for processing were published, undecodable or failed; those replaced gave way to
    a newer one while an inference ran; those unwatched came while nobody subscribed to a mask.
    """

    taken: int = 0
    published: int = 0
    replaced: int = 0
    undecodable: int = 0
    failed: int = 0
    unwatched: int = 0

    def __str__(self) -> str:
        return ', '.join(f'{count} {name}' for name, count in vars(self).items())


class SegmentationNode(LifecycleNode):
    """
    A managed node around a Segmenter.

    ROS runs in the thread that spins the node, decoding and inference in one worker thread which
    lives while the node is active; between them lies a mailbox of one frame. So services answer
    while an inference runs, and the next frame is always the newest.

    Raises rclpy's ParameterException where a parameter's value at start is not acceptable.
    """

    def __init__(self):
        super().__init__(NODE_NAME)
        self._segmenter: Segmenter | None = None
        self._active_domains: tuple[str, ...] = ()
        self._domains_were_default = False
        self._mask_publishers = {}
        self._label_map_publishers = {}
        self._active_domains_publisher = None
        self._input: ImageInput | None = None
        self._mailbox: Mailbox[Image | CompressedImage] | None = None
        self._worker: threading.Thread | None = None
        self._counts = FrameCounts()
        # First of all, so that the values given at start are judged as later ones are.
        self.add_on_set_parameters_callback(self._judge_parameters)
        self.add_post_set_parameters_callback(self._follow_parameters)
        declare(self)

    def autostart(self) -> None:
        """Configure and activate, if the parameter of that name says so."""
        if (self._value('autostart')
                and self.trigger_configure() == TransitionCallbackReturn.SUCCESS):
            self.trigger_activate()

    @_reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; where that fails, say why and stay unconfigured."""
        try:
            segmenter, domains = self._load()
            self._create_publishers(segmenter.domains)
        except Exception as error:
            self._release()
            self.get_logger().error(
                f'not configured: {error}. Set the parameter that is wrong and configure again')
            return TransitionCallbackReturn.FAILURE
        self._segmenter = segmenter
        self._domains_were_default = self._domains_are_default()
        self.set_parameters([Parameter('active_domains', value=domains)])
        return super().on_configure(state)

    @_reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish the label maps, then segment the images that come."""
        result = super().on_activate(state)
        for name, domain in self._segmenter.domains.items():
            self._label_map_publishers[name].publish(String(data=label_map(domain)))
        self._announce_active_domains()
        self._start_frames()
        self.get_logger().info(f'active; domains: {", ".join(self._active_domains)}')
        return result

    @_reported
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; nothing is published any more when this returns."""
        self._stop_frames()
        return super().on_deactivate(state)

    @_reported
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the model's memory."""
        self._release()
        return super().on_cleanup(state)

    @_reported
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and give back everything."""
        self._stop_frames()
        self._release()
        return super().on_shutdown(state)

    @_reported
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured after a transition that raised."""
        self._stop_frames()
        self._release()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """Let the worker finish its frame, then destroy the node."""
        self._stop_frames()
        super().destroy_node()

    def _value(self, name: str) -> bool | int | str | list[str]:
        return self.get_parameter(name).value

    def _domains_are_default(self) -> bool:
        return list(self._value('active_domains')) in ([], FIRST_DOMAIN)

    def _load(self) -> tuple[Segmenter, list[str]]:
        """Return the model, warmed up, and the domains to begin with."""
        path = self._value('model')
        if not path:
            raise ValueError('the parameter model is empty; expected the path of a model file')
        segmenter = Segmenter.load(
            Path(path).expanduser(), device=self._value('device'),
            precision=self._value('precision'),
            inference_size=self._value('inference_size') or None)
        domains = ([next(iter(segmenter.domains))] if self._domains_are_default()
                   else self._value('active_domains'))
        reason = objection('active_domains', domains, segmenter.domains)
        if reason:
            raise ValueError(reason)
        segmenter(np.zeros((*WARM_UP_SIZE, 3), np.uint8))
        self.get_logger().info(
            f'loaded {path} on {segmenter.device}; it has {", ".join(segmenter.domains)}')
        return segmenter, domains

    def _create_publishers(self, names: Iterable[str]) -> None:
        for name in names:
            # Reliable and volatile serves best-effort readers too. A profile for each publisher,
            # since its overrides are written into it.
            self._mask_publishers[name] = self.create_lifecycle_publisher(
                Image, f'~/{name}/mask', QoSProfile(depth=1),
                qos_overriding_options=QoSOverridingOptions.with_default_policies())
            self._label_map_publishers[name] = self.create_lifecycle_publisher(
                String, f'~/{name}/label_map', LATCHED_QOS)
        self._active_domains_publisher = self.create_lifecycle_publisher(
            String, '~/active_domains', LATCHED_QOS)

    def _release(self) -> None:
        for publisher in (*self._mask_publishers.values(), *self._label_map_publishers.values()):
            self.destroy_lifecycle_publisher(publisher)
        if self._active_domains_publisher is not None:
            self.destroy_lifecycle_publisher(self._active_domains_publisher)
        self._mask_publishers, self._label_map_publishers = {}, {}
        self._active_domains_publisher = None
        self._segmenter = None
        if self._domains_were_default:  # so that a model with other domains can follow
            self.set_parameters([Parameter('active_domains', value=FIRST_DOMAIN)])
            self._domains_were_default = False
        gc.collect()
        torch.cuda.empty_cache()  # does nothing where CUDA was not used

    def _judge_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        domains = None if self._segmenter is None else self._segmenter.domains
        for parameter in parameters:
            reason = objection(parameter.name, parameter.value, domains)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _follow_parameters(self, parameters: Sequence[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == 'active_domains' and self._segmenter is not None:
                self._active_domains = tuple(parameter.value)
                if self._active_domains_publisher.is_activated:
                    self._announce_active_domains()

    def _announce_active_domains(self) -> None:
        self._active_domains_publisher.publish(String(data=json.dumps(self._active_domains)))

    def _start_frames(self) -> None:
        self._counts = FrameCounts()
        self._mailbox = Mailbox()
        self._worker = threading.Thread(target=self._work, args=(self._mailbox,), name='inference')
        self._worker.start()
        self._input = ImageInput(self, self._value('image_transport'), self._value('reliability'),
                                 self._post)

    def _stop_frames(self) -> None:
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._worker is not None:
            self._mailbox.close()
            self._worker.join()
            self._worker = None
            logger = self.get_logger()
            if not self.context.ok():
                # After Ctrl-C the node's own would complain that it cannot reach rosout.
                logger = get_logger(f'{logger.name}.end')
            logger.info(f'stopped; frames: {self._counts}')

    def _post(self, message: Image | CompressedImage) -> None:
        self._counts.replaced += self._mailbox.put(message)

    def _work(self, mailbox: Mailbox[Image | CompressedImage]) -> None:
        while (message := mailbox.take()) is not None:
            try:
                self._process(message)
            except MessageError as error:
                self._counts.undecodable += 1
                self.get_logger().error(f'frame skipped, it cannot be decoded: {error}',
                                        throttle_duration_sec=LOG_PERIOD)
            except Exception as error:
                if not self.context.ok():
                    return  # ROS was shut down while this frame was in work
                self._counts.failed += 1
                self.get_logger().error(
                    f'frame skipped, its segmentation failed: {type(error).__name__}: {error}',
                    throttle_duration_sec=LOG_PERIOD)

    def _process(self, message: Image | CompressedImage) -> None:
        domains = [name for name in self._active_domains
                   if self._mask_publishers[name].get_subscription_count()]
        if not domains:
            self._counts.unwatched += 1
            return
        self._counts.taken += 1
        segmentations = self._segmenter(decode(message), domains)
        masks = {name: mask_message(segmentation.mask, message.header)
                 for name, segmentation in segmentations.items()}
        for name, mask in masks.items():
            self._mask_publishers[name].publish(mask)
        self._counts.published += 1


def label_map(domain: Domain) -> str:
    """Return what a mask's values mean, as JSON: each class's index, name and colour."""
    classes = [{'index': index, 'name': name, 'colour': colour}
               for index, (name, colour) in enumerate(zip(domain.classes, domain.palette,
                                                          strict=True))]
    return json.dumps({'domain': domain.name, 'classes': classes, 'unknown': IGNORE_INDEX})


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    with ros_until_signal(args):
        try:
            node = SegmentationNode()
        except ParameterException as error:
            get_logger(NODE_NAME).fatal(f'a parameter cannot be used: {error}')
            return 1
        try:
            node.autostart()
            spin(node)
        finally:
            node.destroy_node()
    return 0


if __name__ == '__main__':
    sys.exit(main())
