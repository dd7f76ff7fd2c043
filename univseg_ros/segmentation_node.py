"""The node: camera images in, masks of the active domains out."""

import sys

from univseg_ros import start

if __name__ == '__main__':  # before what takes seconds to import
    sys.exit(start.run('segmentation_node'))
else:
    start.require_ros()

from collections.abc import Callable, Mapping, Sequence
from functools import partial
import json
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from univseg_core.files import sha256_of
from univseg_core.inference.segmenter import Segmenter
from univseg_core.machine.memory import release_memory
from univseg_ros.camera_info import CameraInfos
from univseg_ros.diagnostics import (
    Diagnostics,
    frame_findings,
    frame_values,
    memory_values,
    model_values,
)
from univseg_ros.findings import Finding
from univseg_ros.frame_worker import FrameSettings, FrameWorker
from univseg_ros.image_input import ImageInput
from univseg_ros.losses import total
from univseg_ros.managed_node import ManagedNode, reported, run_node
from univseg_ros.outputs import DomainOutputs, LabelInfo
from univseg_ros.parameter_table import declare_all
from univseg_ros.parameters import FIRST_DOMAIN, objection, PARAMETERS
from univseg_ros.qos import LATCHED_QOS

NODE_NAME = 'univseg'
DESCRIPTION = """\
Segment the images of a camera: a managed node that comes to active by itself.

  ros2 run univseg_ros segmentation_node --ros-args -p model:=/path/model.univseg \\
    -r image:=/camera/image_raw
  ros2 run univseg_ros segmentation_node --ros-args --params-file my.yaml

Masks come on /univseg/DOMAIN/mask; docs/segmentation_node.md has all topics and parameters."""
WARM_UP_SIZE = (480, 640)


class SegmentationNode(ManagedNode):
    """
    A managed node around a Segmenter.

    ROS runs in the thread that spins the node, decoding and inference in one worker thread which
    lives while the node is active; between them lies a mailbox of one frame. So services answer
    while an inference runs, and the next frame is always the newest.

    Several may live in one process, under names of their own: `options` are those of rclpy's Node
    (namespace, parameter_overrides, cli_args …). Raises rclpy's ParameterException where a
    parameter's value at start is not acceptable.
    """

    def __init__(self, node_name: str = NODE_NAME, **options: Any):
        super().__init__(node_name, **options)
        self._segmenter: Segmenter | None = None
        self._sha256 = ''
        self._domains_were_default = False
        self._outputs: dict[str, DomainOutputs] = {}
        self._active_domains_publisher: LifecyclePublisher | None = None
        self._input: ImageInput | None = None
        self._camera_infos = CameraInfos(self)
        self._worker: FrameWorker | None = None
        self._settings: FrameSettings | None = None
        # Before they are declared, so that the values given at start are judged as later ones.
        self.add_on_set_parameters_callback(self._judge_parameters)
        declare_all(self, PARAMETERS)
        self._settings = self._read_settings({})
        if hasattr(self, 'add_post_set_parameters_callback'):
            self.add_post_set_parameters_callback(self._follow_parameters)
        Diagnostics(self, self._look)

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; where that fails, say why and stay unconfigured."""
        self._failure = ''
        try:
            segmenter, self._sha256 = self._prepared.result() if self._prepared else self._load()
            if not self.context.ok():
                raise RuntimeError('ROS was shut down')
            domains = self._first_domains(segmenter)
            if reason := objection('traversable', self._texts('traversable'), segmenter.domains):
                raise ValueError(reason)
            # It may have been set while the model was loaded.
            segmenter.inference_size = self._integer('inference_size') or None
            measured = ''.join(f', {name} {value:.1f} ms'
                               for name, value in segmenter.measured.items())
            self.get_logger().info(
                f'loaded {self._text("model")} on {segmenter.device}; it has '
                f'{", ".join(segmenter.domains)}; {segmenter.backend} runs it in '
                f'{segmenter.precision}{measured and f" (its encoder, when compared{measured})"}')
            # First here and last at the end: by it, bag_recorder knows the others from cameras.
            self._active_domains_publisher = self.create_lifecycle_publisher(
                String, '~/active_domains', LATCHED_QOS)
            for name, domain in segmenter.domains.items():
                self._outputs[name] = DomainOutputs(
                    self, domain, traversable=self._texts('traversable'),
                    camera_info_of=self._camera_infos.of)
        except Exception as error:
            self._release()
            self._fail(f'not configured: {error}. Set the parameter that is wrong and configure '
                       'again')
            return TransitionCallbackReturn.FAILURE
        if LabelInfo is None:
            self.get_logger().info('vision_msgs is not installed: label_info is not published, '
                                   'label_map says the same')
        self._segmenter = segmenter
        self._domains_were_default = self._domains_are_default()
        self.set_parameters([Parameter('active_domains', value=domains)])
        return super().on_configure(state)

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish the label maps, then segment the images that come."""
        self._failure = ''
        assert self._segmenter is not None  # since it is configured
        self._worker = FrameWorker(self, self._segmenter, self._outputs, self._current_settings)
        try:
            self._input = ImageInput(
                self, self._text('image_transport'), self._text('reliability'),
                self._integer('depth'), self._worker.put, lambda: self._number('image_timeout'))
        except ValueError as error:
            self._stop()
            self._fail(f'not activated: {error}')
            return TransitionCallbackReturn.FAILURE
        self._camera_infos.open()
        result = super().on_activate(state)
        self._announce_labels()
        self._announce_active_domains()
        domains = ', '.join(self._current_settings().active_domains)
        self.get_logger().info(f'active; domains: {domains}')
        self._begin_bond()
        return result

    def destroy_node(self) -> None:
        """Let the worker finish its frame, then destroy the node."""
        self._end_bond()
        self._stop()
        self._close_outputs()
        super().destroy_node()

    def _domains_are_default(self) -> bool:
        return list(self._texts('active_domains')) in ([], FIRST_DOMAIN)

    def _first_domains(self, segmenter: Segmenter) -> list[str]:
        """Return the domains to begin with; raise ValueError for one that is not the model's."""
        if self._domains_are_default():
            return [next(iter(segmenter.domains))]
        domains = list(self._texts('active_domains'))
        if reason := objection('active_domains', domains, segmenter.domains):
            raise ValueError(reason)
        return domains

    def _prepare(self) -> Callable[[], object] | None:
        return None if self._segmenter else self._loading()

    def _load(self) -> tuple[Segmenter, str]:
        return self._loading()()

    def _loading(self) -> Callable[[], tuple[Segmenter, str]]:
        """Return what loads the model that the parameters name now."""
        return partial(load, self._text('model'), self._text('device'), self._text('precision'),
                       self._integer('inference_size'), self._text('backend'))

    def _close_outputs(self) -> None:
        for outputs in self._outputs.values():
            outputs.close()
        self._outputs = {}
        if self._active_domains_publisher is not None:
            self.destroy_lifecycle_publisher(self._active_domains_publisher)
        self._active_domains_publisher = None

    def _release(self) -> None:
        self._close_outputs()
        self._segmenter = None
        if self._domains_were_default:  # so that a model with other domains can follow
            self._domains_were_default = False
            self.set_parameters([Parameter('active_domains', value=FIRST_DOMAIN)])
        release_memory()

    def _judge_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        domains = None if self._segmenter is None else self._segmenter.domains
        for parameter in parameters:
            reason = objection(parameter.name, parameter.value, domains,
                               active=self._worker is not None)
            if self._prepared is not None and _is_of_the_model(parameter.name):
                reason = f'{parameter.name} cannot be set while the model is being loaded'
            if parameter.name == 'inference_size' and self._segmenter is not None:
                reason = reason or self._segmenter.size_objection(parameter.value)
            if parameter.name.startswith('qos_overrides.') and self.has_parameter(parameter.name):
                reason = f'{parameter.name} can only be given when the node starts'
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        if not hasattr(self, 'add_post_set_parameters_callback') and self._settings is not None:
            self._follow_parameters(parameters)  # Humble has nothing better
        return SetParametersResult(successful=True)

    def _follow_parameters(self, parameters: Sequence[Parameter]) -> None:
        new = {parameter.name: parameter.value for parameter in parameters}
        # First, since a new topic declares parameters, which come here as well.
        if 'traversable' in new:
            for outputs in self._outputs.values():
                outputs.offer_traversable(new['traversable'])
        self._settings = self._read_settings(new)
        if self._segmenter is not None and 'inference_size' in new:
            self._segmenter.inference_size = new['inference_size'] or None
        if self._worker is not None:
            if 'active_domains' in new:
                self._announce_active_domains()
            if 'confidence_threshold' in new:
                self._announce_labels()

    def _read_settings(self, new: Mapping[str, Any]) -> FrameSettings:
        """Return the settings that the parameters make, with some new values."""
        return FrameSettings(**{name: new.get(name, self.get_parameter(name).value)
                                for name in FrameSettings.__annotations__})

    def _current_settings(self) -> FrameSettings:
        assert self._settings is not None  # since the parameters are declared
        return self._settings

    def _announce_labels(self) -> None:
        for outputs in self._outputs.values():
            outputs.announce(self._current_settings().confidence_threshold)

    def _announce_active_domains(self) -> None:
        assert self._active_domains_publisher is not None  # since the node is active
        message = String(data=json.dumps(list(self._current_settings().active_domains)))
        self._active_domains_publisher.publish(message)

    def _stop(self) -> None:
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._worker is not None:
            self._worker.stop()
            totals = self._worker.statistics.totals()
            self._worker = None
            release_memory()
            counts = ', '.join(f'{count} {name}' for name, count in totals.items())
            self._log('info', f'stopped; frames: {counts}')
        self._camera_infos.close()

    def _look(self) -> tuple[list[Finding], Mapping[str, str]]:
        """Return what diagnostics tell."""
        findings, values = [], {}
        if self._failure:
            findings.append(Finding(DiagnosticStatus.ERROR, self._failure))
        if self._segmenter is not None:
            values.update(model_values(self._segmenter, self._text('model'), self._sha256))
            asked = self._integer('inference_size') or self._segmenter.own_size
            if self._segmenter.inference_size != asked:
                findings.append(Finding(
                    DiagnosticStatus.WARN, 'memory ran out: inference_size is '
                    f'{self._segmenter.inference_size} instead of '
                    f'{asked or "the size of the images"}'))
        if self._worker is None:
            state = ('finalized: start it anew' if self._finalized else
                     'loading the model' if self._prepared else
                     'unconfigured' if self._segmenter is None else 'inactive')
            findings.append(Finding(DiagnosticStatus.WARN, f'not active: the node is {state}'))
        else:
            assert self._input is not None  # it comes and goes with the worker
            values['active domains'] = ', '.join(self._current_settings().active_domains)
            values['image topic'] = self._input.topic
            summary = self._worker.statistics.recent()
            values.update(frame_values(summary, self._worker.statistics.totals()))
            findings += frame_findings(summary, self._number('image_timeout'))
            if self._worker.grey:
                findings.append(Finding(DiagnosticStatus.OK, 'the images are grey, packed as YUV: '
                                        f'{self._worker.grey}'))
            values['camera_info topic'] = self._camera_infos.state
            if problem := self._camera_infos.problem:
                findings.append(Finding(DiagnosticStatus.WARN, problem))
            lost = self._input.losses
            values['images lost by the middleware'] = total([lost])
            if told := lost.told('images'):
                findings.append(Finding(DiagnosticStatus.WARN, told))
            if silence := self._input.silence():
                findings.append(Finding(DiagnosticStatus.ERROR, silence))
        return findings, {**values, **memory_values(self._segmenter)}


def _is_of_the_model(parameter: str) -> bool:
    return parameter in PARAMETERS and PARAMETERS[parameter].changes == 'unconfigured'


def load(model: str, device: str, precision: str, inference_size: int,
         backend: str) -> tuple[Segmenter, str]:
    """
    Return the model of a file, warmed up, and the file's SHA-256; the rest is as in PARAMETERS.

    Raises ValueError, or what Segmenter.load raises, where it cannot be used.
    """
    if not model:
        raise ValueError('the parameter model is empty; expected the path of a model file')
    path = Path(model).expanduser()
    segmenter = Segmenter.load(path, device=device, precision=precision,
                               inference_size=inference_size or None, backend=backend)
    digest = sha256_of(path)
    segmenter(np.zeros((*(segmenter.only_size or WARM_UP_SIZE), 3), np.uint8))
    release_memory()  # of the file and the way to a network: tens of MB
    return segmenter, digest


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run_node(SegmentationNode, NODE_NAME, 'segmentation_node', DESCRIPTION, PARAMETERS,
                    args)
