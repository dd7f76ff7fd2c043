"""The recorder: images of cameras into bags, without rosbag2."""

import sys

from univseg_ros import start

if __name__ == '__main__':  # before what takes seconds to import
    sys.exit(start.run('bag_recorder'))
else:
    start.require_ros()

from collections.abc import Callable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger
from univseg_core.bags.distributions import this_distribution
from univseg_core.bags.topics import definition_of, RecordingError
from univseg_core.recording.budget import Budget
from univseg_core.recording.flight import MEMORY_FULL
from univseg_core.recording.folder import RecordingFolder
from univseg_core.recording.policies import CONFIDENCE, KEPT, POLICIES, Policy, PolicyEntry
from univseg_core.recording.recorder import REASONS, Recorder, RecorderSettings
from univseg_ros.active_domains import ActiveDomains
from univseg_ros.camera_topics import camera_topics, node_outputs, TEXT, TYPES
from univseg_ros.evidence import EVIDENCE
from univseg_ros.findings import Finding, StatusPublisher
from univseg_ros.flight_conditions import DOMAIN, FlightConditions
from univseg_ros.losses import total
from univseg_ros.managed_node import ManagedNode, reported, run_node
from univseg_ros.parameter_table import declare_all
from univseg_ros.qos import LATCHED_QOS
from univseg_ros.raw_subscriptions import RawSubscriptions
from univseg_ros.recorder_diagnostics import LOSSES, RecordingWatch, summary
from univseg_ros.recorder_parameters import (
    ANY,
    COMPRESSIONS,
    objection,
    PARAMETERS,
    STORAGE,
    THIS,
)
from univseg_ros.timers import steady_timer

NODE_NAME = 'bag_recorder'
DESCRIPTION = """\
Record the images of cameras into bags: a managed node that comes to active by itself.

  ros2 run univseg_ros bag_recorder --ros-args -p directory:=/data/bags
  ros2 run univseg_ros bag_recorder --ros-args -p "topics:=['/front/image_raw']" \\
    -p policy:=novel -p max_size:=20000 -p when_full:=drop_oldest

docs/recorder.md tells of all topics, services and parameters."""

MEGABYTE = 10**6
STATUS_PERIOD = 1.0
"""Seconds between two messages on ~/status."""

SERVICES = {
    'pause': (Recorder.pause, 'paused'),
    'resume': (Recorder.resume, 'recording goes on'),
    'split': (Recorder.split, 'a new file begins with the next image'),
}
"""What each service does, and its answer."""


class BagRecorder(ManagedNode):
    """
    A managed node around a Recorder.

    ROS runs in the thread that spins the node, which hands serialized messages on; what is done
    with them, in the recorder's thread. Several may live in one process, under names of their own:
    `options` are those of rclpy's Node. Raises rclpy's ParameterException where a parameter's
    value at start is not acceptable.
    """

    def __init__(self, node_name: str = NODE_NAME, **options: Any):
        super().__init__(node_name, **options)
        self._folder: RecordingFolder | None = None
        self._recorder: Recorder | None = None
        self._cameras: RawSubscriptions | None = None
        self._evidence: RawSubscriptions | None = None
        self._active_domains: ActiveDomains | None = None
        self._conditions: FlightConditions | None = None
        self._watch: RecordingWatch | None = None
        self._explained: set[tuple[str, str]] = set()
        self._lost: dict[str, int] = {}
        # Before they are declared, so that the values given at start are judged as later ones.
        self.add_on_set_parameters_callback(self._judge_parameters)
        declare_all(self, PARAMETERS)
        self.declare_parameter(*STORAGE)
        self._status_publisher = self.create_publisher(String, '~/status', LATCHED_QOS)
        for name, (action, done) in SERVICES.items():
            self.create_service(Trigger, f'~/{name}', self._answer_by(action, done))
        self.create_service(Trigger, '~/write', self._answer_by(
            lambda recorder: self._write('asked for by ~/write'),
            'what is in memory is written, and what comes now'))
        StatusPublisher(self, {'recording': self._look}, 'no image has come yet')
        steady_timer(self, STATUS_PERIOD, self._publish_status)

    @reported
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the folder, and finish what a killed recorder left; where that fails, say why."""
        self._failure = ''
        try:
            for type_ in TYPES:
                definition_of(type_)  # which takes a moment
            self._folder = RecordingFolder(Path(self._text('directory')).expanduser())
        except (RecordingError, OSError, RuntimeError, ValueError) as error:
            self._fail(f'not configured: {error}. Mend it, or set another directory, and '
                       'configure again')
            return TransitionCallbackReturn.FAILURE
        for text in self._folder.finished:
            self.get_logger().warning(text)
        for text in self._folder.problems:
            self.get_logger().error(text)
        return super().on_configure(state)

    @reported
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Record the images that come."""
        self._failure = ''
        assert self._folder is not None  # since it is configured
        directory = self._folder.path
        try:
            budget = Budget(directory, self._integer('max_size') * MEGABYTE,
                            self._integer('min_free') * MEGABYTE,
                            self._text('when_full') == 'drop_oldest')
        except OSError as error:
            self._fail(f'not activated: {error}. Clean up and configure again')
            return TransitionCallbackReturn.FAILURE
        self._recorder = Recorder(self._settings(directory), self._policy(), budget, self._log)
        self._cameras = RawSubscriptions(self, self._camera_topics, self._integer('depth'),
                                         self._recorder.put)
        self._cameras.open()
        needs = self._needs()
        if needs:
            self._open_evidence(needs, self._recorder)
        if self._entry().triggered:
            self._conditions = FlightConditions(
                self, self._texts('flight_on'), self._domain_topics,
                list(filter(None, self._texts('flight_diagnostics'))), self._write)
        self._lost.clear()
        self._watch = RecordingWatch(self._recorder, self._cameras, needs, self._evidence)
        self.get_logger().info(f'active; policy {self._text("policy")}, bags in {directory}')
        result = super().on_activate(state)
        self._begin_bond()
        return result

    def destroy_node(self) -> None:
        """Finish the bag, then destroy the node."""
        self._end_bond()
        self._stop()
        self._release()
        super().destroy_node()

    def _settings(self, directory: Path) -> RecorderSettings:
        split_size = self._integer('split_size') * MEGABYTE
        if largest := self._integer('max_size') * MEGABYTE // 4:
            split_size = min(split_size or largest, largest)
        return RecorderSettings(
            directory, self._text('name'), COMPRESSIONS[self._text('compression')], split_size,
            self._number('split_time'), self._integer('queue_size') * MEGABYTE,
            this_distribution() if self._text('distribution') == THIS
            else self._text('distribution'))

    def _policy(self) -> Policy:
        entry = self._entry()
        values = {name: self.get_parameter(name).value for name in entry.parameters}
        return entry.build(values, self._integer('queue_size') * MEGABYTE)

    def _entry(self) -> PolicyEntry:
        return POLICIES[self._text('policy')]

    def _needs(self) -> str:
        """Return what the policy has to be told of beside images: a key of EVIDENCE, or ''."""
        entry = self._entry()
        if entry.triggered and CONFIDENCE in self._texts('flight_on'):
            return CONFIDENCE
        return entry.needs

    def _open_evidence(self, needs: str, recorder: Recorder) -> None:
        evidence = EVIDENCE[needs]
        options = {}
        if evidence.of_domains:
            self._active_domains = ActiveDomains(self)
            options['may_come'] = self._active_domains.may_come
        self._evidence = RawSubscriptions(
            self, lambda: self._named(f'{needs}_topics') or node_outputs(
                self, needs, evidence.type),
            self._integer('depth'), recorder.put_evidence, evidence.content, **options)
        self._evidence.open()

    def _write(self, why: str) -> str:
        """Let the policy write what it has, for some reason; return why it does not, or ''."""
        if self._recorder is None or not self._entry().triggered:
            return (f'policy {self._text("policy")} keeps what it keeps without being asked; '
                    'policy flight is for this')
        return self._recorder.trigger(self.get_clock().now().nanoseconds, why)

    def _camera_topics(self) -> list[str]:
        return self._named('topics') or list(camera_topics(self))

    def _domain_topics(self) -> list[str]:
        return self._named('flight_domains') or node_outputs(self, DOMAIN, TEXT)

    def _named(self, parameter: str) -> list[str]:
        """Return the topics that a parameter names; none if they are to be discovered."""
        names = list(self._texts(parameter))
        return [] if names == ANY else [self.resolve_topic_name(name) for name in names]

    def _judge_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if reason := objection(parameter.name, parameter.value,
                                   configured=self._folder is not None,
                                   active=self._recorder is not None):
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _answer_by(self, action: Callable[[Recorder], str | None], done: str) -> Callable:
        def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            if self._recorder is None:
                response.message = f'nothing is being recorded: the node is {self._state()}'
                return response
            if reason := action(self._recorder):
                response.message = reason
                return response
            response.success, response.message = True, done
            self.get_logger().info(done)
            self._publish_status()
            return response
        return answer

    def _state(self) -> str:
        return ('finalized: start it anew' if self._finalized else
                'unconfigured' if self._folder is None else
                'inactive' if self._recorder is None else 'active')

    def _stop(self) -> None:
        for subscriptions in (self._cameras, self._evidence, self._active_domains,
                              self._conditions):
            if subscriptions is not None:
                subscriptions.close()
        self._cameras = self._evidence = self._active_domains = self._conditions = None
        self._watch = None
        if self._recorder is not None:
            self._recorder.stop()
            status = self._recorder.status()
            self._recorder = None
            counts = ', '.join(f'{status.count(reason)} {reason}' for reason in (KEPT, *REASONS)
                               if status.count(reason) or reason == KEPT)
            self._log('info', f'stopped; images: {counts}')

    def _look(self) -> tuple[list[Finding], Mapping[str, str]]:
        """Return what diagnostics tell."""
        findings, values = [], {'policy': self._text('policy')}
        if self._failure:
            findings.append(Finding(DiagnosticStatus.ERROR, self._failure))
        if self._watch is None:
            findings.append(Finding(DiagnosticStatus.WARN,
                                    f'not active: the node is {self._state()}'))
            return findings, values
        found, more = self._watch.look(self._number('image_timeout'))
        assert self._cameras is not None  # they come and go with the watch
        losses = self._cameras.losses
        if (lost := total(losses.values())) != '0':
            values['images lost by the middleware'] = lost
        findings += [Finding(DiagnosticStatus.WARN, told) for topic, each in losses.items()
                     if (told := each.told(f'images of {topic}'))]
        return findings + found, {**values, **more}

    def _publish_status(self) -> None:
        """Publish ~/status; log what was lost since, and each topic that has become silent."""
        status = self._recorder.status() if self._recorder else None
        self._status_publisher.publish(String(data=json.dumps(summary(self._state(), status))))
        if status is not None:
            for reason in (*LOSSES, MEMORY_FULL):
                before, count = self._lost.get(reason, 0), status.count(reason)
                # What is let go of memory is so all the time, or never.
                if count > before and not (reason == MEMORY_FULL and before):
                    self.get_logger().warning(
                        f'{count - before} images are not kept: {REASONS[reason]}')
                self._lost[reason] = count
        if self._watch is not None:
            reasons = self._watch.silence(self._number('image_timeout'))
            # They tell for how many seconds, which is no news.
            told = {(topic, reason.partition(': ')[2]): reason
                    for topic, reason in reasons.items()}
            for key in told.keys() - self._explained:
                self.get_logger().warning(told[key])
            self._explained = set(told)

    def _release(self) -> None:
        if self._folder is not None:
            self._folder.close()
        self._folder = None


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; return the exit code."""
    return run_node(BagRecorder, NODE_NAME, 'bag_recorder', DESCRIPTION, PARAMETERS, args)
