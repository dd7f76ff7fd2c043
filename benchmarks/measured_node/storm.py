"""A storm: random changes of all that may change, one after another, while three cameras send."""

from collections import Counter
import copy
import json
import os
from pathlib import Path
import random
import re
import sys
import time
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from measured_node.made_up_places import write_knowing_model, write_model
from measured_node.processes import DEADLINE, resident_megabytes, running_node
from measured_node.storm_cameras import all_pictures, Cameras
from measured_node.storm_outputs import all_topics, parameters_of_depth, Watch
from measured_node.storm_truth import BEGIN, CAMERAS, DOMAINS, Truth
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from std_srvs.srv import Trigger
import torch
from univseg_core.inference.segmenter import Segmenter

PAUSES = (0.0, 0.0, 0.02, 0.05, 0.2, 0.4)
"""Seconds from one change to the next."""

REST = 50
"""Changes after which everything is looked at while no image is sent."""

MILESTONE = 200
"""Changes after which memory is looked at."""

KINDS = {'parameters': 10, 'pin': 4, 'transition': 1, 'camera': 2, 'subscription': 5, 'move': 3}
"""Kinds of changes, and how often each is made."""


class Storm:
    """
    Cameras, requests and subscriptions around a node of this name, drawn from a seed.

    `namespace` is that of its cameras' topics, `segmenter` runs its model. The node begins with
    `parameters`. What goes wrong is counted in `watch.faults`.
    """

    def __init__(self, name: str, namespace: str, segmenter: Segmenter, seed: int = 0):
        self.name = name
        self.chance = random.Random(seed)
        self.truth = Truth()
        self.node = Node('storm')
        self.watch = Watch(self.node, name, segmenter, all_pictures())
        self.watch.history.append(self.truth.snapshot())
        self.watch.answered = 1
        self.cameras = Cameras(self.node, namespace, self.watch, self.chance)
        self.made: dict[str, int] = dict.fromkeys(KINDS, 0)
        self.refused = 0
        self.clients: dict[str, Any] = {}
        for topic in all_topics():
            if self.chance.random() < 0.6:
                self.watch.toggle(topic)

    def begin(self) -> None:
        """Wait until the node answers and images come to something."""
        self._client(SetParameters, 'set_parameters')
        self._wait(lambda: any(frame.outputs for frame in self.watch.frames.values()),
                   'the first mask')

    def run(self, changes: int) -> None:
        """Make changes."""
        for number in range(1, changes + 1):
            kind, = self.chance.choices([*KINDS], [*KINDS.values()])
            if self.truth.state != 'active' and self.chance.random() < 0.5:
                kind = 'transition'
            self.made[kind] += 1
            getattr(self, f'_change_{kind}')()
            self.spin(self.chance.choice(PAUSES))
            if number % REST == 0:
                self._rest()

    def make_active(self) -> None:
        """Bring the node to active."""
        while self.truth.state != 'active':
            self._transition({'unconfigured': Transition.TRANSITION_CONFIGURE,
                              'inactive': Transition.TRANSITION_ACTIVATE}[self.truth.state])

    def end(self) -> None:
        """Send nothing more, take what is on its way, and look at all frames."""
        self.cameras.silent = True
        self.spin(1.0)
        self.watch.judge_sets()

    def fault(self, what: str) -> None:
        self.watch.faults[what] += 1

    def _change_parameters(self) -> None:
        values, good = self.truth.random_values(self.chance)
        new = copy.deepcopy(self.truth)
        if good:
            new.set(values)
        together = len(values) > 1
        request = (SetParametersAtomically if together else SetParameters).Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()
                        for name, value in values.items()])
        result = self._ask(
            SetParametersAtomically if together else SetParameters,
            f'set_parameters{"_atomically" * together}', request, new)
        result = result.result if together else result.results[0]
        if result.successful != good:
            self.fault(f'{values} was {"taken" if result.successful else "refused"} while '
                       f'{self.truth.state}: {result.reason}')
        self._note_refusal(result.successful, result.reason, str(values))

    def _change_pin(self) -> None:
        if self.truth.state == 'unconfigured':  # there is no such service
            return
        camera = self.chance.choice(CAMERAS)
        domain = self.chance.choice([*DOMAINS, *DOMAINS, ''])
        service = f'{camera}/{domain}/pin' if domain else f'{camera}/release'
        answer = self._ask(Trigger, service, Trigger.Request(), self.truth)
        is_auto = self.truth.is_auto(camera)
        possible = is_auto and bool(domain or camera in self.truth.pinned)
        if answer.success != possible:
            self.fault(f'{service} was {"done" if answer.success else "refused"}: '
                       f'{answer.message}')
        elif is_auto and domain:
            self.truth.pinned[camera] = domain
        elif is_auto:
            self.truth.pinned.pop(camera, None)
        self._note_refusal(answer.success, answer.message, service)

    def _change_transition(self) -> None:
        self._transition(self.truth.random_transition(self.chance))

    def _transition(self, transition: int) -> None:
        new = copy.deepcopy(self.truth)
        before = new.state
        possible = new.change_state(transition)
        answer = self._ask(ChangeState, 'change_state', ChangeState.Request(
            transition=Transition(id=transition)), new)
        if answer.success != possible:
            self.fault(f'transition {transition} from {before}: {answer.success}')
        if possible and transition in (Transition.TRANSITION_CLEANUP,
                                       Transition.TRANSITION_CONFIGURE):
            self.spin(0.2)  # what lies in queues comes before
            self.watch.publishers_went()
        self.refused += not possible

    def _change_camera(self) -> None:
        self.cameras.come_or_vanish(self.chance.choice((*CAMERAS, 'rear', 'rear', 'rear')))

    def _change_subscription(self) -> None:
        self.watch.toggle(self.chance.choice([*all_topics()]))

    def _change_move(self) -> None:
        self.cameras.move()

    def _rest(self) -> None:
        """Send nothing for a while, and compare what is told and set with what should be."""
        self.cameras.silent = True
        self.spin(0.5)
        values = self._ask(GetParameters, 'get_parameters',
                           GetParameters.Request(names=[*self.truth.values]), self.truth).values
        for name, value in zip(self.truth.values, map(parameter_value_to_python, values),
                               strict=True):
            if value != self.truth.values[name]:
                self.fault(f'{name} is {value}, not {self.truth.values[name]}')
        if self.truth.state == 'active':
            for camera in CAMERAS:
                self._compare_what_is_told(camera)
        self.cameras.silent = False

    def _compare_what_is_told(self, camera: str) -> None:
        domains = self.watch.told.get((camera, 'active_domains'))
        expected = self.truth.of(camera, 'active_domains')
        if self.truth.is_auto(camera):
            place = self.watch.told[camera, 'domain']
            expected = [place['domain']] if place['domain'] else []
            pinned = self.truth.pinned.get(camera)
            if (place['pinned'], place['domain'] if pinned else None) != (bool(pinned), pinned):
                self.fault(f'{camera} should be pinned to {pinned}, but domain says {place}')
        if domains != expected:
            self.fault(f'{camera}/active_domains says {domains}, not {expected}')

    def _note_refusal(self, successful: bool, reason: str, what: str) -> None:
        self.refused += not successful
        if not successful and not reason:
            self.fault(f'{what} was refused without a reason')

    def _ask(self, type_: Any, service: str, request: Any, new: Truth) -> Any:
        """Return the answer to a request, after which the node should be as `new`."""
        client = self._client(type_, service)
        self.watch.history.append(new.snapshot())
        answer = client.call_async(request)
        self._wait(answer.done, f'the answer of {service}')
        self.truth = new
        self.watch.answered = len(self.watch.history)
        return answer.result()

    def _client(self, type_: Any, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.node.create_client(type_, f'{self.name}/{service}')
        client = self.clients[service]
        if not client.service_is_ready():
            self._wait(client.service_is_ready, service)
            self.spin(0.3)  # until the service knows its client, too
        return client

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def _wait(self, condition: Any, what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f'waited {DEADLINE:.0f} s in vain: {what}')
            rclpy.spin_once(self.node, timeout_sec=0.05)


def parameters(name: str) -> list[str]:
    """Return the parameters with which a node of that name begins, NAME:=VALUE."""
    return ['precision:=fp32', f'cameras:=[{",".join(CAMERAS)}]',
            *(f'{key}:={json.dumps(value)}' for key, value in BEGIN.items()),
            *parameters_of_depth(name)]


def measure_storm(folder: Path, count: int) -> None:
    """Change a node's parameters, state, cameras and readers at random; print what went wrong."""
    os.environ['OMP_NUM_THREADS'] = '1'  # threads for so small a network wait for each other
    torch.set_num_threads(1)
    write_model(folder / 'plain.univseg')
    model = write_knowing_model(folder / 'plain.univseg', folder)
    begin = time.monotonic()
    with running_node('model', folder, *parameters('/univseg'), model=model, tell=False) as node:
        storm = Storm('/univseg', '', Segmenter.load(model, precision='fp32'))
        storm.begin()
        for done in range(0, count, MILESTONE):
            storm.run(min(MILESTONE, count - done))
            storm.make_active()
            storm.spin(1.0)
            print(f'  {min(done + MILESTONE, count):5} changes: '
                  f'{resident_megabytes(node.pid):.1f} MB', flush=True)
        storm.end()
        took = time.monotonic() - begin
    log = (folder / 'node.log').read_text()
    became = Counter()
    for line in re.findall('stopped; frames: (.*)', log):
        for number, outcome in re.findall(r'(\d+) (\w+)', line):
            became[outcome] += int(number)
    failed = became['failed'] + became['undecodable']
    print(f'{count} changes in {took:.0f} s ('
          f'{", ".join(f"{number} {kind}" for kind, number in storm.made.items())}; '
          f'{storm.refused} refused as they should be)\n{storm.watch.counts()}\nof the node: '
          f'{", ".join(f"{number} {outcome}" for outcome, number in became.items() if number)}\n'
          f'{storm.watch.faults.total()} faults, {failed} frames failed')
    for fault, number in storm.watch.faults.most_common():
        print(f'  {number} × {fault}')
    storm.node.destroy_node()
    if failed or storm.watch.faults or 'callback failed' in log:
        sys.exit('not as it should be')
