"""The node: camera images in, masks of the active domains out."""

import sys

from univseg_ros import start

if __name__ == '__main__':  # before what takes seconds to import
    sys.exit(start.run('segmentation_node'))
else:
    start.require_ros()

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from univseg_core.errors import UnivsegError
from univseg_core.inference.batches import BatchTimes
from univseg_core.inference.model_names import model_file
from univseg_core.inference.segmenter import Segmenter
from univseg_core.machine.memory import release_memory
from univseg_ros.camera import Camera
from univseg_ros.diagnostics import Diagnostics, memory_values, model_values
from univseg_ros.findings import Finding
from univseg_ros.frame_worker import FrameWorker
from univseg_ros.managed_node import ManagedNode, reported, run_node
from univseg_ros.outputs import LabelInfo
from univseg_ros.parameter_table import (
    declare_all,
    declare_anew,
    declare_for_camera,
    of_camera,
)
from univseg_ros.parameters import (
    FIRST_DOMAIN,
    NO_CAMERAS,
    objection,
    PARAMETERS,
    rule_objection,
)
from univseg_ros.place import AUTO
from univseg_ros.shared_models import load_shared
from univseg_ros.topic_collisions import info_objections, topic_objection

NODE_NAME = 'univseg'
DESCRIPTION = """\
Segment the images of a camera: a managed node that comes to active by itself.

  ros2 run univseg_ros segmentation_node --ros-args -p model:=/path/model.univseg \\
    -r image:=/camera/image_raw
  ros2 run univseg_ros segmentation_node --ros-args --params-file my.yaml
  ros2 run univseg_ros segmentation_node --ros-args -p model:=demo    a small one, to try it

Masks come on /univseg/DOMAIN/mask; docs/segmentation_node.md has all topics and parameters."""
WARM_UP_SIZE = (480, 640)


class SegmentationNode(ManagedNode):
    """
    A managed node around a Segmenter.

    ROS runs in the thread that spins the node, decoding and inference in one worker thread which
    lives while the node is active; between them lies a mailbox of one frame. So services answer
    while an inference runs, and the next frame is always the newest.

    Several may live in one process, under names of their own: `options` are those of rclpy's Node
    (namespace, parameter_overrides, cli_args …). Those with the same model file have one model in
    memory. Raises rclpy's ParameterException where a parameter's value at start is not acceptable.
    """

    def __init__(self, node_name: str = NODE_NAME, **options: Any):
        super().__init__(node_name, **options)
        self._segmenter: Segmenter | None = None
        self._sha256 = ''
        self._batches = BatchTimes()
        self._domains_were_default = False
        self._worker: FrameWorker | None = None
        self._cameras: dict[str, Camera] = {}
        self._names: Sequence[str] = ()
        # Before they are declared, so that the values given at start are judged as later ones.
        self.add_on_set_parameters_callback(self._judge_parameters)
        declare_all(self, PARAMETERS)
        self._names = self._texts('cameras') or NO_CAMERAS
        for name in filter(None, self._names):
            declare_for_camera(self, name, PARAMETERS)
        self._cameras = {name: Camera(self, name, partial(self._value, name))
                         for name in self._names}
        if hasattr(self, 'add_post_set_parameters_callback'):
            self.add_post_set_parameters_callback(self._follow_parameters)
        Diagnostics(self, {'segmentation': self._look, **{
            f'segmentation {name}': partial(self._look_at, camera)
            for name, camera in self._cameras.items() if name}})

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; where that fails, say why and stay unconfigured."""
        self._failure = ''
        try:
            segmenter, self._sha256, self._batches = (
                self._prepared.result() if self._prepared else self._load())
            if not self.context.ok():
                raise RuntimeError('ROS was shut down')
            domains = self._first_domains(segmenter)
            self._check_values(segmenter)
            measured = ''.join(f', {name} {value:.1f} ms'
                               for name, value in segmenter.measured.items())
            self.get_logger().info(
                f'loaded {self._text("model")} on {segmenter.device}; it has '
                f'{", ".join(segmenter.domains)}; {segmenter.backend} runs it in '
                f'{segmenter.precision}{measured and f" (its encoder, when compared{measured})"}')
            if len(self._cameras) > 1:
                self.get_logger().info(f'frames that wait are encoded {self._batches}')
            for camera in self._cameras.values():
                camera.configure(segmenter)
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
        self._worker = FrameWorker(self, self._segmenter, self._batches.largest)
        try:
            self._activate_cameras(self._worker)
        except (ValueError, RuntimeError) as error:  # RCLError is one of the latter
            self._stop()
            self._fail(f'not activated: {error}')
            return TransitionCallbackReturn.FAILURE
        result = super().on_activate(state)
        for camera in self._cameras.values():
            camera.announce()
        domains = '; '.join(f'{name and f"{name}: "}{camera.domains_in_words()}'
                            for name, camera in self._cameras.items())
        self.get_logger().info(f'active; domains: {domains}')
        self._begin_bond()
        return result

    def destroy_node(self) -> None:
        """Let the worker finish its frame, then destroy the node."""
        self._end_bond()
        self._stop()
        self._close_outputs()
        super().destroy_node()

    def _value(self, camera: str, name: str, new: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """
        Return a parameter of a camera: its own where that is set, else the general one.

        Of those in `new`, it is the value there.
        """
        own = f'{camera}.{name}' if camera and PARAMETERS[name].per_camera else name
        for full in (own, name):
            # Not there is one that is taken back, and about to be declared anew.
            value = new[full] if full in new else self.get_parameter_or(full).value
            if value not in (None, [], FIRST_DOMAIN):
                break
        return value

    def _domains_are_default(self) -> bool:
        return list(self._texts('active_domains')) in ([], FIRST_DOMAIN)

    def _first_domains(self, segmenter: Segmenter) -> list[str]:
        """Return the domains to begin with; raise ValueError where a camera cannot begin."""
        if AUTO[0] in segmenter.domains:
            raise ValueError(f'this model has a domain called {AUTO[0]}, which says here that the '
                             'images tell the domain: train it under another name')
        first = [next(iter(segmenter.domains))]
        for name in self._cameras:
            domains = list(self._value(name, 'active_domains'))
            reason = '' if domains in ([], FIRST_DOMAIN) else objection(
                'active_domains', domains, segmenter.domains, camera=name,
                auto=no_auto(segmenter))
            if reason:
                raise ValueError(reason)
        return first if self._domains_are_default() else list(self._texts('active_domains'))

    def _check_values(self, segmenter: Segmenter) -> None:
        """Raise ValueError where a model cannot do as parameters say that were set before."""
        if reason := objection('traversable', self._texts('traversable'), segmenter.domains):
            raise ValueError(reason)
        for name in self._cameras:
            if reason := segmenter.size_objection(self._value(name, 'inference_size')):
                raise ValueError(f'{name and f"{name}: "}{reason}')

    def _activate_cameras(self, worker: FrameWorker) -> None:
        """Raise ValueError or RuntimeError where their topics collide, or a QoS is none."""
        cameras = self._cameras.items()
        infos = {name: camera.info_topic for name, camera in cameras}
        if reason := topic_objection({name: camera.topic for name, camera in cameras}, infos,
                                     {name: camera.output_topics for name, camera in cameras}):
            raise ValueError(reason)
        without_info = info_objections(infos)
        for name, camera in cameras:
            camera.activate(worker, with_info=name not in without_info)
        for complaint in without_info.values():
            self.get_logger().warning(complaint)

    def _prepare(self) -> Callable[[], object] | None:
        return None if self._segmenter else self._loading()

    def _load(self) -> tuple[Segmenter, str, BatchTimes]:
        return self._loading()()

    def _loading(self) -> Callable[[], tuple[Segmenter, str, BatchTimes]]:
        """Return what loads the model that the parameters name now."""
        return partial(load, self._text('model'), self._text('device'), self._text('precision'),
                       self._integer('inference_size'), self._text('backend'),
                       len(self._cameras))

    def _close_outputs(self) -> None:
        for camera in self._cameras.values():
            camera.release()

    def _release(self) -> None:
        self._close_outputs()
        self._segmenter = None
        if self._domains_were_default:  # so that a model with other domains can follow
            self._domains_were_default = False
            self.set_parameters([Parameter('active_domains', value=FIRST_DOMAIN)])
        release_memory()

    def _judge_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        new = {parameter.name: parameter.value for parameter in parameters}
        reason = next(filter(None, (self._objection(*each) for each in new.items())), '')
        switch, stay = (new.get(name, self.get_parameter(name).value
                                if self.has_parameter(name) else PARAMETERS[name].default)
                        for name in ('auto_switch', 'auto_stay'))
        reason = reason or rule_objection(switch, stay)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        if not hasattr(self, 'add_post_set_parameters_callback') and self._cameras:
            self._follow_parameters(parameters)  # Humble has nothing better
        return SetParametersResult(successful=True)

    def _objection(self, full: str, value: Any) -> str:
        """Say why a parameter cannot be set to a value; an empty text means that it can."""
        camera, name = of_camera(full, self._names)
        if camera and value is None and not self.has_parameter(full):  # it is being declared
            return ''
        if camera and value is None and not hasattr(self, 'add_post_set_parameters_callback'):
            return f'{full}: this version of ROS cannot take it back; set it to another value'
        if self._prepared is not None and _is_of_the_model(full):
            return f'{full} cannot be set while the model is being loaded'
        if full.startswith('qos_overrides.') and self.has_parameter(full):
            return f'{full} can only be given when the node starts'
        segmenter = self._segmenter
        reason = objection(name, value, None if segmenter is None else segmenter.domains,
                           active=self._worker is not None, camera=camera,
                           auto='' if segmenter is None else no_auto(segmenter))
        if name == 'inference_size' and segmenter is not None and value is not None:
            reason = reason or segmenter.size_objection(value)
        return reason

    def _follow_parameters(self, parameters: Sequence[Parameter]) -> None:
        new = {parameter.name: parameter.value for parameter in parameters}
        declare_anew(self, new, self._names, PARAMETERS)
        named = [of_camera(full, self._names) for full in new]
        for camera in self._cameras.values():
            camera.follow({name: self._value(camera.name, name, new)
                           for owner, name in named if owner in ('', camera.name)
                           and name in PARAMETERS})

    def _stop(self) -> None:
        for camera in self._cameras.values():
            camera.deactivate()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None
            release_memory()
            for name, camera in self._cameras.items():
                if counts := camera.counts():
                    self._log('info', f'{name and f"{name}: "}stopped; frames: {counts}')

    def _look(self) -> tuple[list[Finding], Mapping[str, str]]:
        """Return what diagnostics tell of the node, and of a camera without a name."""
        findings, values = [], {}
        if self._failure:
            findings.append(Finding(DiagnosticStatus.ERROR, self._failure))
        if self._segmenter is not None:
            values.update(model_values(self._segmenter, self._text('model'), self._sha256))
            if len(self._cameras) > 1:
                values['batch'] = str(self._batches)
        if self._worker is None:
            state = ('finalized: start it anew' if self._finalized else
                     'loading the model' if self._prepared else
                     'unconfigured' if self._segmenter is None else 'inactive')
            findings.append(Finding(DiagnosticStatus.WARN, f'not active: the node is {state}'))
        elif '' in self._cameras:
            camera_findings, camera_values = self._cameras[''].look()
            findings += camera_findings
            values |= camera_values
        else:
            findings.append(Finding(DiagnosticStatus.OK,
                                    f'cameras: {", ".join(self._cameras)}'))
            if self._worker.largest_batch < self._batches.largest:
                findings.append(Finding(
                    DiagnosticStatus.WARN, 'memory ran out: of frames that wait, no more than '
                    f'{self._worker.largest_batch} are encoded at once'))
        return findings, {**values, **memory_values(self._segmenter)}

    def _look_at(self, camera: Camera) -> tuple[list[Finding], Mapping[str, str]] | None:
        """Return what diagnostics tell of a camera with a name, while the node is active."""
        return None if self._worker is None else camera.look()


def no_auto(segmenter: Segmenter) -> str:
    """Say why a model cannot tell domains by images; an empty text means that it can."""
    try:
        segmenter.check_evidence()
    except UnivsegError as error:
        return str(error)
    return ''


def _is_of_the_model(parameter: str) -> bool:
    return parameter in PARAMETERS and PARAMETERS[parameter].changes == 'unconfigured'


def load(model: str, device: str, precision: str, inference_size: int,
         backend: str, cameras: int) -> tuple[Segmenter, str, BatchTimes]:
    """
    Return the model of a file, warmed up, the file's SHA-256, and what batches of it take.

    Batches are measured for a number of cameras; the other arguments are as in PARAMETERS. Raises
    ValueError, or what Segmenter.load raises, where the file cannot be used.
    """
    if not model:
        raise ValueError('the parameter model is empty; expected the path of a model file, or '
                         'demo, the small model that ships')
    path = model_file(Path(model).expanduser(), backend)
    segmenter, digest = load_shared(path, device=device, precision=precision,
                                    inference_size=inference_size or None, backend=backend)
    segmenter(np.zeros((*(segmenter.only_size or WARM_UP_SIZE), 3), np.uint8))
    batches = segmenter.measure_batches(cameras, inference_size or None)
    release_memory()  # of the file and the way to a network: tens of MB
    return segmenter, digest.result(), batches


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run_node(SegmentationNode, NODE_NAME, 'segmentation_node', DESCRIPTION, PARAMETERS,
                    args)
